"""`tmuad sql` without a query: an interactive prompt with history, completion and highlighting."""

from collections.abc import Callable, Iterable
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.input import Input
from prompt_toolkit.lexers import PygmentsLexer
from prompt_toolkit.output import Output
from pygments.lexers.sql import SqlLexer

from tmuad.warehouse.access import QueryError, Reader
from tmuad.warehouse.export import as_text, printable
from tmuad.warehouse.schema import TABLES
from tmuad.warehouse.views import VIEWS

KEYWORDS = (
    "SELECT", "FROM", "WHERE", "GROUP BY", "ORDER BY", "HAVING", "QUALIFY", "LIMIT", "JOIN", "LEFT JOIN", "USING", "ON",
    "AS", "AND", "OR", "NOT", "IN", "IS NULL", "IS NOT NULL", "LIKE", "ILIKE", "BETWEEN", "CASE", "WHEN", "THEN", "ELSE",
    "END", "DISTINCT", "DESC", "ASC", "UNION ALL", "WITH", "DESCRIBE", "SUMMARIZE", "SHOW TABLES", "PIVOT", "UNNEST",
    "count(*)", "avg(", "min(", "max(", "sum(", "list(", "median(", "quantile_cont(",
)  # fmt: skip
HELP = """\
A query ends with a semicolon; it may take several lines. Tab completes, arrow up recalls.
.tables          tables and views, with what a row is
.schema NAME     columns of a table or view, with what they mean
.help            this
.quit            or Ctrl-D: leave
"""


class SqlCompleter(Completer):
    """Keywords, tables, views and columns; after `name.`, the columns of that table alone."""

    def __init__(self, columns: dict[str, list[str]]) -> None:
        self.columns = columns

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        word = document.get_word_before_cursor(WORD=True)
        if text.lstrip().startswith("."):
            yield from self._matching(text.lstrip(), [".tables", ".schema ", ".help", ".quit"], "command")
            if text.lstrip().startswith(".schema "):
                yield from self._matching(word, self.columns, "table")
            return
        word = word.rpartition("(")[2].rpartition(",")[2]
        table, dot, start = word.rpartition(".")
        if dot:
            yield from self._matching(start, self.columns.get(table, []), "column")
            return
        if not word:
            return
        yield from self._matching(word, self.columns, "table")
        yield from self._matching(word, sorted({c for names in self.columns.values() for c in names}), "column")
        yield from self._matching(word, KEYWORDS, "")

    def _matching(self, start: str, names: Iterable[str], kind: str) -> Iterable[Completion]:
        for name in names:
            if name.lower().startswith(start.lower()) and name != start:
                yield Completion(name, start_position=-len(start), display_meta=kind)


def run_prompt(
    reader: Reader,
    show: Callable[[str], None],
    history: Path | None = None,
    device: tuple[Input, Output] | None = None,
) -> None:
    """Ask until the user leaves. A mistake, or Ctrl-C during a long query, is shown and the prompt goes on.

    Args:
        history: file that keeps the queries; None keeps them for this session only.
        device: where keys come from and the prompt goes; by default the terminal.
    """
    kept: History = InMemoryHistory()
    if history is not None:
        try:
            history.parent.mkdir(parents=True, exist_ok=True)
            history.touch()
            kept = FileHistory(str(history))
        except OSError:
            show(f"{history}: cannot be written, so this session's history will not be kept\n")
    typed, drawn = device or (None, None)
    session: PromptSession[str] = PromptSession(
        history=kept,
        completer=SqlCompleter(_columns(reader)),
        complete_while_typing=True,
        auto_suggest=AutoSuggestFromHistory(),
        lexer=PygmentsLexer(SqlLexer),
        multiline=Condition(lambda: not _complete(session.default_buffer.text)),
        prompt_continuation="   ...> ",
        input=typed,
        output=drawn,
    )
    show(f"{reader.path}, read-only. A query ends with ';'. .help explains, .tables lists, Ctrl-D leaves.\n")
    while True:
        try:
            text = session.prompt("tmuad> ").strip()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        if text in (".quit", ".exit"):
            return
        try:
            show(answer(reader, text))
        except QueryError as error:
            show(f"{error}\n")
        except KeyboardInterrupt:
            show("stopped\n")


def answer(reader: Reader, text: str) -> str:
    """What the prompt prints in answer to one line: the rows of a query, or what a dot command says."""
    command, _, argument = text.partition(" ")
    match command:
        case "":
            return ""
        case ".help":
            return HELP
        case ".tables":
            rows = [(name, table.comment) for name, table in TABLES.items()]
            rows += [(name, comment) for name, (_, comment) in VIEWS.items()]
            return "".join(f"{name:24}{comment}\n" for name, comment in rows)
        case ".schema":
            name = argument.strip().rstrip(";")
            if name not in (*TABLES, *VIEWS):
                return f"no table or view '{printable(name)}'; .tables lists them\n"
            return as_text(reader.ask(_SCHEMA.format(name=name)), max_rows=1000, max_cell=110)
    if command.startswith("."):
        return f"no command '{printable(command)}'; .help lists them\n"
    return as_text(reader.ask(text))


_SCHEMA = """
SELECT column_name AS "column", data_type AS "type", coalesce(comment, '') AS meaning FROM duckdb_columns()
WHERE table_name = '{name}' AND database_name <> 'temp' ORDER BY column_index
"""


def _complete(text: str) -> bool:
    """Whether Enter sends `text`: a dot command, nothing at all, or a query that its semicolon ends."""
    return not text.strip() or text.lstrip().startswith(".") or text.rstrip().endswith(";")


def _columns(reader: Reader) -> dict[str, list[str]]:
    rows = reader.ask("SELECT DISTINCT table_name, column_name FROM duckdb_columns() WHERE NOT internal ORDER BY ALL")
    known: dict[str, list[str]] = {name: [] for name in (*TABLES, *VIEWS)}
    for table, column in zip(rows["table_name"].to_pylist(), rows["column_name"].to_pylist(), strict=True):
        known.setdefault(table, []).append(column)
    return known
