"""The launchers by name, built from a study's ``[launcher]`` table."""

from __future__ import annotations

from fairstep.runs import machine
from fairstep.study.file.study import AnyStudy, Study
from fairstep.study.launchers.base import Launcher
from fairstep.study.launchers.local import Layout, LocalLauncher, layout


def launcher_of(study: AnyStudy, name: str | None = None, workers: int = 0) -> Launcher:
    """The study's launcher, or another one by name. Raises ValueError that names a missing extra."""
    settings = study.table.launcher
    name, workers = name or settings.name, workers or settings.workers
    processes, cpus = settings.each, max(settings.cpus, settings.each)
    if name == "ray":
        from fairstep.study.launchers.ray import RayLauncher

        return RayLauncher(workers, cpus, settings.gpus, settings.threads, settings.address, processes)
    if name == "slurm":
        from fairstep.study.launchers.slurm import SlurmLauncher

        return SlurmLauncher(
            workers=workers or 100,
            cpus=cpus,
            gpus=settings.gpus,
            minutes=settings.minutes,
            partition=settings.partition,
            options=settings.options,
            cluster=settings.cluster or None,
            processes=processes,
        )
    return LocalLauncher(machine(), layout_of(study, workers))


def layout_of(study: AnyStudy, workers: int = 0) -> Layout:
    """How the launcher local divides this machine for a study."""
    settings = study.table.launcher
    largest = 0  # of somebody else's model nothing is known
    if isinstance(study, Study):
        cells = study.cells(study.assumed_texts())
        largest = max(cell.workload.parameters for cell in cells)
    return layout(machine(), largest, workers or settings.workers, settings.threads, settings.each)
