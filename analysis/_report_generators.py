"""What a report says of the generators: how far each is to be trusted, and what was reached with it."""

from __future__ import annotations

import io
from collections.abc import Sequence

from _report_page import Picture, Section, Table
from _report_source import Source

SHOWN = 6  # generators with a picture

FIGURES = {
    "error": "reconstruction_rmse",
    "of the mean image": "mean_image_rmse",
    "least sd": "code_sd_least",
    "largest sd": "code_sd_most",
    "energy": "energy_coefficient",
    "same class": "near_same_class",
    "by chance": "near_by_chance",
    "F agrees": "decoded_agreement",
    "steps that leave": "gradient_left_share",
    "steps that stick": "gradient_stuck_share",
}
EXPLAINED = (
    "error: root mean square of G(E(x)) - x on test images, beside that of the mean image. Least and largest standard "
    "deviation of E(D) along any direction, and the coefficient of its energy distance to N(0, I): 1, 1 and 0 for "
    "N(0, I). Same class: of the nearest validation samples in latent space, the share that is of a sample's class. "
    "F agrees: metric of F(G(E(x))) with F(x) as the label. Of steps of length α along the gradient, the shares that "
    "leave the data, and that reach no other sample. Test AULC: mean over the experiments that used the generator, "
    "so that n and what it makes of the images can be seen beside the labels they save."
)


def generators(source: Source) -> Section:
    """A line for each generator and strategy that used it, and pictures of what generators make of test images."""
    title = "Generators"
    if not source.one("select count(*) as n from generators")["n"]:
        return Section("generators", title, ["No experiment that has finished used a latent space."])
    figures = ", ".join(f'avg({column}) as "{name}"' for name, column in FIGURES.items())
    sql = f"""
        select generators.generator, generators.latent_dim as n, generator_key as key, trials.strategy,
          count(*) as runs, {figures}, avg(test_aulc) as aulc, stddev_samp(test_aulc) as sd
        from generators join trials using (sweep, experiment) group by all order by n, key, strategy"""
    rows = source.ask(sql)
    columns = ["generator", "n", "key", "strategy", "runs", *FIGURES]
    table = Table(
        "Generators, and what was reached with them; means over runs",
        [*columns, f"test AULC{source.unit}"],
        [
            [
                *({**row, "key": row["key"][:8]}[name] for name in columns),
                source.spread(row["aulc"], row["sd"]),
            ]
            for row in rows
        ],
    )
    parts = [table, EXPLAINED, *_pictures(source, list(dict.fromkeys(row["key"] for row in rows)))]
    return Section("generators", title, parts, [source.query(sql), source.script("generators.py")])


def _pictures(source: Source, keys: Sequence[str]) -> list[str | Picture]:
    """What the first of these generators make of test images."""
    from generators import drawn_from, figure, pictured  # matplotlib: only where there is something to draw

    kept = pictured(source.folder)
    shown = [kept[key] for key in keys if key in kept]
    parts: list[str | Picture] = []
    for key, row in drawn_from(source.folder, shown[:SHOWN]).items():
        drawn = io.BytesIO()
        figure(row).savefig(drawn, format="png", dpi=100)
        caption = (
            f"{row['generator']}, n = {row['latent_dim']} ({key[:8]}): test images, what it rebuilds of them, walks "
            "between their codes, images of fresh z"
        )
        parts.append(Picture(caption, caption, drawn.getvalue()))
    if len(shown) > SHOWN:
        parts.append(f"The first {SHOWN} of {len(shown)} generators are shown; the command below draws all.")
    return parts
