"""The table of short names in `docs/models.md`, from the file that the program reads.

python -m tools.site.models_table
"""

from collections.abc import Iterator

from pnpvideo.catalogue.short_names import short_names


def models_table() -> str:
    """Return the table in Markdown."""
    return "\n".join(_rows())


def _rows() -> Iterator[str]:
    yield "| name | what it is | own size | download | GPU memory for frames | licence | good at |"
    yield "|---|---|---|--:|---|---|---|"
    for name, model in short_names().items():
        memory = "<br>".join(
            f"{size.replace('x', ' x ')}: "
            + ", ".join(f"{memory:g} GiB for {count}" for count, memory in each.items())
            for size, each in model.memory.items()
        )
        address = f"https://huggingface.co/{model.id}"
        yield (
            f"| `{name}` | {model.is_called}: [{model.id}]({address}) "
            f"| {model.size.replace('x', ' x ')} | {model.download:g} GB | {memory} "
            f"| {model.licence} | {model.good_at} |"
        )


if __name__ == "__main__":
    print(models_table())
