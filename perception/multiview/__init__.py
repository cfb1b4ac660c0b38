"""Posed views of generated ground, and an implicit neural field that is fitted to them and renders any other view.

    scene = scene_of(engine, world, bounds)                the ground: colours, heights, buildings, classes
    views = render_views(scene, orbit(scene, 24, 128))     RGB, depth and labels, true by construction
    write_views(folder, views)                             images/, depth/, labels/, transforms.json
    fit(folder)                                            colours, then classes from 3 to 5 labelled views

`scene` and `relief` make the ground, `cameras` place it before a camera, `rendering` gives the true views, `posed` the
folder; `field`, `semantics`, `prior` and `running` are what is learned of it.
"""
