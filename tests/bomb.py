"""A pickle that calls a function when it is read, which no reader of the project may let happen."""


class Bomb:
    """Calls function(*arguments) when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call
