"use strict";
// Tables sort by the column whose heading is pressed; charts are drawn by Vega, told by pointer or by keyboard.

for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    const numeric = heading.classList.contains("number");
    const value = (row) => {
      const text = row.cells[column].dataset.value;
      return numeric ? Number(text.replace("inf", "Infinity")) : text;
    };
    const compare = numeric ? (a, b) => (a < b ? -1 : a > b) : (a, b) => a.localeCompare(b);
    button.addEventListener("click", () => {
      // Numbers start with the largest, as what is looked for is the best more often than not.
      const before = heading.getAttribute("aria-sort");
      const up = before ? before === "descending" : !numeric;
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => (up ? 1 : -1) * compare(value(a), value(b)));
      table.tBodies[0].append(...rows);
    });
  });
}

addEventListener("beforeprint", () => {
  for (const commands of document.querySelectorAll("details.again")) commands.open = true;
});

async function draw(name, spec) {
  const plot = document.getElementById(name);
  const figure = plot.closest("figure");
  // `ast`: expressions are interpreted, never evaluated as code, which the page's policy forbids.
  const { view } = await vegaEmbed(plot, spec, {
    actions: false,
    ast: true,
    renderer: "svg",
    tooltip: { disableDefaultStyle: true },
  });

  const hidden = new Set();
  for (const button of figure.querySelectorAll(".keys button")) {
    button.addEventListener("click", () => {
      const label = button.dataset.label;
      if (!hidden.delete(label)) hidden.add(label);
      button.setAttribute("aria-pressed", String(!hidden.has(label)));
      view.signal("hidden", [...hidden]).runAsync();
    });
  }

  let told = null;
  const marks = () => [...plot.querySelectorAll("[aria-roledescription=datum]")];
  const series = (mark) => mark.__data__.datum.line;
  const point = (mark, type) => {
    const box = mark.getBoundingClientRect();
    const at = { bubbles: true, clientX: box.x + box.width / 2, clientY: box.y + box.height / 2 };
    for (const kind of ["pointer", "mouse"]) {
      mark.dispatchEvent(new (kind === "mouse" ? MouseEvent : PointerEvent)(kind + type, at));
    }
  };
  const leave = () => {
    if (told?.isConnected) point(told, "out");
    told?.classList.remove("told");
    told = null;
  };
  plot.addEventListener("keydown", (event) => {
    const all = marks();
    const at = all.indexOf(told);
    let next;
    if (event.key === "ArrowRight") next = all[at + 1];
    else if (event.key === "ArrowLeft") next = all[at < 0 ? all.length - 1 : at - 1];
    else if (event.key === "Home") next = all[0];
    else if (event.key === "End") next = all.at(-1);
    else if (event.key === "ArrowDown") next = at < 0 ? all[0] : all.slice(at).find((m) => series(m) !== series(told));
    else if (event.key === "ArrowUp") next = at < 0 ? all[0] : all.slice(0, at).findLast((m) => series(m) !== series(told));
    else if (event.key === "Escape") leave();
    else return;
    event.preventDefault();
    if (!next) return;
    leave();
    told = next;
    told.classList.add("told");
    point(told, "move");
    figure.querySelector("[aria-live]").textContent = told.getAttribute("aria-label");
  });
  plot.addEventListener("blur", leave);
}

const specs = JSON.parse(document.getElementById("specs").textContent);
window.drawn = Promise.all(Object.entries(specs).map(([name, spec]) => draw(name, spec)));
