"""The errors that decide a message's or a job's fate. Knows nothing of Kafka or SQL.

NoriaError
├── Dead              the message can never be handled -> dead-letter topic
├── Park              a passing fault -> tried again later, later messages of its key wait behind it
├── JobFailed         a job has no result, with a code that programs can read; jobs/failures.py says which are tried again
├── JobStopped        a job gave way to a stop of the service; it resumes at the next start
├── ArtifactError
│   ├── ArtifactUnavailable  the store does not answer
│   ├── ArtifactMissing      nothing lies where the reference points
│   ├── ArtifactCorrupt      what lies there has another digest or size
│   └── ArtifactRefused      the reference points outside the allowed roots, or a name leaves its folder
├── NotReady          a part the service needs does not answer
└── SettingRefused    settings do not fit together, or name a file that cannot be used
"""


class NoriaError(Exception):
    """Base of all errors of this project."""


class Dead(NoriaError):
    """The message can never be handled. `reason` is a stable word, the message says what would be right."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Park(NoriaError):
    """The message cannot be handled yet. `reason` is a stable word."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class JobFailed(NoriaError):
    """A job has no result. `code` is a stable word such as `empty_dataset`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class JobStopped(NoriaError):
    """A job saved its state and gives way; raised by a child function after a stop was asked for."""


class ArtifactError(NoriaError):
    """An artifact cannot be read or written."""


class ArtifactUnavailable(ArtifactError):
    """The store does not answer, or refuses for now; the same call may succeed later."""


class ArtifactMissing(ArtifactError):
    """Nothing lies where the reference points."""


class ArtifactCorrupt(ArtifactError):
    """What lies there is not what the reference names."""


class ArtifactRefused(ArtifactError):
    """The reference or a name is not allowed."""


class NotReady(NoriaError):
    """A part that the service needs does not answer."""


class SettingRefused(NoriaError):
    """Settings do not fit together, or name a file that cannot be used; the message names the settings, no secret."""
