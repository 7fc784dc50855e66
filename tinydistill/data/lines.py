"""The lines of a text file that may come from anybody."""

from pathlib import Path

from tinydistill.errors import WrongUsage


def lines(path, needed):
    """The lines of a UTF-8 file without their ends, blank ones at its end left out.

    There may be a byte-order mark; lines end in LF or CRLF and in nothing else: splitlines would cut at U+2028, too.
    needed: what line 1 should have been, for the error about an empty file.
    Raises: WrongUsage, with file and line.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise WrongUsage(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise WrongUsage(f"{path}, line {line}: need UTF-8, got byte 0x{error.object[error.start]:02x}") from None
    text = text.rstrip("\r\n")
    if not text:
        raise WrongUsage(f"{path}, line 1: need {needed}, the file is empty")
    return [line.removesuffix("\r") for line in text.split("\n")]
