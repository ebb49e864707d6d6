"""The outcome of cases as JUnit's XML, which every CI server shows.

Source: the schema of Apache Ant's junit task (https://github.com/windyroad/JUnit-Schema), of which testsuites, testsuite,
testcase and failure are used.
"""

import re
from collections.abc import Sequence
from itertools import groupby
from xml.etree.ElementTree import Element, SubElement, tostring

from services.cli.prompts.trial import Result

_NO_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write (https://www.w3.org/TR/xml/#charsets)."""


def document(name: str, results: Sequence[Result]) -> bytes:
    """A suite a model, a case each of its cases, a failure each check that does not hold."""
    root = Element("testsuites", name=_xml(name))
    for model, group in groupby(sorted(results, key=lambda one: one.trial.model), key=lambda one: one.trial.model):
        rows = list(group)
        failed = sum(bool(one.failures) for one in rows)
        seconds = sum(one.answer.seconds for one in rows)
        counts = {"tests": str(len(rows)), "failures": str(failed), "errors": "0", "time": f"{seconds:.3f}"}
        suite = SubElement(root, "testsuite", {"name": _xml(model), **counts})
        for one in rows:
            case = SubElement(
                suite, "testcase", classname=_xml(model), name=_xml(one.trial.title), time=f"{one.answer.seconds:.3f}"
            )
            for failure in one.failures:
                said = SubElement(
                    case, "failure", type=failure.check, message=_xml(f"{failure.check}: {failure.expected}")
                )
                said.text = _xml(failure.got)
    return tostring(root, encoding="utf-8", xml_declaration=True)


def _xml(text: str) -> str:
    return _NO_XML.sub("\ufffd", text)
