"""Sweeps: which settings serve a model best, measured on a running server.

The order of a sweep: a *subject* (recipe, archive or anybody's repository) is served; a *search* chooses which
:class:`~builder.sweep.setting.Setting` under which :class:`~builder.sweep.load.Load` is measured next; the *bench*
applies the setting to the running server, sends the load and makes a :class:`~builder.sweep.point.Point` of it; the
*record* keeps each point at once. From the points come the ranking, the report, the tuned file and the verdict
against a baseline.
"""
