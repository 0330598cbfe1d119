"""The tasks that are shipped, by name."""

from alss_ray.tasks.base import Task, TaskData
from alss_ray.tasks.cifar10 import Cifar10
from alss_ray.tasks.digits import Digits
from alss_ray.tasks.folder import Folder
from alss_ray.tasks.ivus import Ivus
from alss_ray.tasks.mnist import Mnist
from alss_ray.tasks.parquet import Parquet

TASKS: dict[str, type] = {task.name: task for task in (Cifar10, Digits, Folder, Ivus, Mnist, Parquet)}

__all__ = ["TASKS", "Cifar10", "Digits", "Folder", "Ivus", "Mnist", "Parquet", "Task", "TaskData"]
