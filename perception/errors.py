"""Errors of perception, as branches of the engine's own tree.

    EarthgenError
    ├── InvalidRequestError
    │   ├── PairError                       two images that cannot be compared
    │   │   └── ImageError                  one file that is not an image we can read
    │   ├── ClassListError                  class names that a model cannot look for
    │   ├── PhraseError                     what to look for, when it is empty, too long or in another script
    │   ├── PromptError                     a click or a box that is not in the picture
    │   ├── SceneError                      ground, cameras or labelled views that no views can be made or learned of
    │   └── QuestionError                   an instruction to the agent that is empty or too long
    ├── AgentError                          what a tool of the agent cannot do or know, in a sentence for people
    ├── PlannerError                        a language model that cannot be reached or asks for what there is not
    ├── UnknownModelError (LookupError)     a model name that is not in the registry
    └── DependencyError (ImportError)       an optional package that this call needs is not installed

Weights that are missing, damaged or of another layout raise the engine's `WeightsError`.
"""

from earthgen.errors import EarthgenError, InvalidRequestError


class PairError(InvalidRequestError):
    """Two images that differ in size, place or reference system, or hold values that mean nothing."""


class ImageError(PairError):
    """A file that is not there, is no image, or is an image of another kind than can be used."""


class ClassListError(InvalidRequestError):
    """A list of class names that is empty, repeats itself, or is unknown to a model with fixed classes."""


class PhraseError(InvalidRequestError):
    """A phrase that is empty, too long, or in a script that the text encoder cannot hear."""


class PromptError(InvalidRequestError):
    """A click or a box that is not in the picture, or no such thing."""


class QuestionError(InvalidRequestError):
    """An instruction to the agent that is empty, too long or no text."""


class SceneError(InvalidRequestError):
    """Ground, a camera or a set of views of which no views can be rendered or learned."""


class AgentError(EarthgenError):
    """What a tool of the agent cannot do or know; the message is part of the answer."""


class PlannerError(EarthgenError):
    """A language model that cannot be reached, answers nonsense, or asks for tools that there are not."""


class UnknownModelError(EarthgenError, LookupError):
    """A model name that is not in the registry."""


class DependencyError(EarthgenError, ImportError):
    """An optional package is missing; the message says what to install."""


def first_line(error: BaseException) -> str:
    """What a library's error says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
