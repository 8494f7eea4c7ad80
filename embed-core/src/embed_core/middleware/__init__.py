"""One file per concern, each of the shape `(request, next, io) -> vectors`; `_base.py` lists them in order."""
