"""Dependency-free C packages for phones, boards and anywhere without Python."""

from oarlock.lite.package import Package, build

__all__ = ["Package", "build"]
