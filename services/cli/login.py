"""Who runs this process: what decisions and resolutions are signed with where nobody else is named."""


def login_name() -> str:
    """The login name as the system knows it; `unknown` for a container's user without one."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
