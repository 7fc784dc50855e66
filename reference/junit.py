"""What came of a run as XML for continuous integration: a suite for each equation and dtype, a test for each case."""

import re
from xml.etree import ElementTree

from tinydistill_reference.report import block, cause, followed, otherwise, verdict

UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")     # what XML 1.0 has no place for
NOT_A_FAILURE = ("skipped", "announced", "unrefused")


def text(results):
    """The document."""
    root = ElementTree.Element("testsuites", name="tinydistill verify")
    for result in results:
        _suite(root, verdict(result))
    _count(root)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(root, seen):
    result = seen.result
    suite = ElementTree.SubElement(root, "testsuite", name=f"{result.equation.name} {result.dtype}")
    for outcome in result.outcomes:
        case = ElementTree.SubElement(suite, "testcase", classname=f"{result.equation.name}.{result.dtype}",
                                      name=_printable(f"{outcome.id}: {outcome.stored.case.comment}"))
        if outcome.status == "failed":
            said = _why(seen, outcome)
            failure = ElementTree.SubElement(case, "failure", message=_printable(said[0]), type="wrong")
            failure.text = _printable("\n".join(said))
        elif outcome.status in NOT_A_FAILURE:
            ElementTree.SubElement(case, "skipped", message=_printable(f"{outcome.status}: {outcome.words}"))
    _count(suite)


def _why(seen, outcome):
    """The text of a failure, the shortest reason first."""
    if seen.status != "other":
        return block(seen.result, outcome) + cause(seen)
    return [followed(seen.result), *otherwise(seen), *block(seen.result, outcome)]


def _count(element):
    for name, tag in (("tests", "testcase"), ("failures", "failure"), ("skipped", "skipped")):
        element.set(name, str(sum(1 for _ in element.iter(tag))))


def _printable(words):
    return UNPRINTABLE.sub("?", words)
