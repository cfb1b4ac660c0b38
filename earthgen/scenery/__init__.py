"""Places by prompt as scenes: what the words name, laid out by address, in colours that were measured.

A prompt is read as a scene (`meaning`): covers such as woods, fields or a town, and layouts such as a coast, a river
or mountains. A scene is a colour for each pixel of an unbounded plane (`composition`), a function of the seed and the
address, in the colours that the training pictures of such ground have (`palette`). `SceneryRoot` gives the cascade
parents from it, and to each level below the detail that the scene has there; texture is the network's.
"""
