"""Python source to code whose control flow a tracer can record."""
