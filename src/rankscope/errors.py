"""What Rankscope raises and warns of beyond ValueError: each states the rule, the value and the remedy."""


class CorruptDataError(ValueError):
    """A data file is truncated, oversized, mislabelled or malicious; the message names its path and the remedy."""


class MissingDataError(FileNotFoundError):
    """A data set is not on this machine; the message says where to put it and which needs no network."""


class LockedFitWarning(UserWarning):
    """Entries of a factor sit at zero although the objective wants them to grow, and the solver cannot move them."""
