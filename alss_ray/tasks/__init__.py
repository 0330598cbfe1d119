"""The tasks that are shipped, by name."""

from alss_ray.tasks.base import Task, TaskData
from alss_ray.tasks.digits import Digits
from alss_ray.tasks.ivus import Ivus
from alss_ray.tasks.mnist import Mnist

TASKS: dict[str, type] = {task.name: task for task in (Digits, Ivus, Mnist)}

__all__ = ["TASKS", "Digits", "Ivus", "Mnist", "Task", "TaskData"]
