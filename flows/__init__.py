"""When and whether: Prefect flows over the stages that DVC owns. Nothing here imports torch; steps take paths and names."""
