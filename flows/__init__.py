"""When and whether: Prefect flows over the stages that DVC owns. Nothing here imports torch; steps take paths and names."""

import os

# Before Prefect is imported, which reads them then. It tells nobody of its use; and without a server of its own it starts
# one in the process, which takes a busy machine longer than the 20 s it would wait.
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
