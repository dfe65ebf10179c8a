"""The `selfhost` command: the verbs, loaded only when called, and the one place where errors become exit codes."""

import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from io import StringIO
from typing import Any, NoReturn

import click

from selfhost import __version__
from selfhost.cli import output
from selfhost.errors import ExitCode, SelfhostError

# verb: (module:attribute, short help). The help stands here so that `selfhost --help` imports no verb.
VERBS: Mapping[str, tuple[str, str]] = {
    "check": ("selfhost.cli.manifest:check", "Read the manifest and report everything that is wrong with it."),
    "schema": ("selfhost.cli.manifest:schema", "Print the JSON Schema of the manifest, for editors."),
    "gpus": ("selfhost.cli.hardware:gpus", "Show the GPUs and the host that plans are made for."),
    "doctor": (
        "selfhost.cli.doctor:doctor",
        "Say whether this box will serve, what is wrong with it, and how to fix it.",
    ),
    "plan": (
        "selfhost.cli.plan:plan",
        "Show what would run where and why, and what `up` would do. Changes nothing.",
    ),
    "pull": ("selfhost.cli.plan:pull", "Fetch the weights of the models of the manifest, without starting anything."),
    "up": ("selfhost.cli.up:up", "Serve the manifest: install, fetch, start, prove, and keep it running."),
    "down": (
        "selfhost.cli.down:down",
        "Stop everything that the manifest runs; nothing of it is left.",
    ),
    "ps": ("selfhost.cli.ps:ps", "Show what runs, in which state, since when and why."),
    "logs": (
        "selfhost.cli.logs:logs",
        "Show the logs of engines, of `gateway` or of `manager`.",
    ),
    "health": (
        "selfhost.cli.health:health",
        "Exit with 0 when the models answer and with 5 when they do not. Made for probes.",
    ),
    "keys": (
        "selfhost.cli.keys:keys",
        "Create, list and revoke API keys. They take effect at once, without a restart.",
    ),
    "engine": ("selfhost.cli.engine:engine", "Install, download, list and remove engine environments."),
    "version": ("selfhost.cli.version:version", "Show the versions of selfhost and of what it uses."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called: the price of a verb is paid by that verb."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, in the order of the pipe."""
        del ctx
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the verb `cmd_name`; None when there is no such verb."""
        del ctx
        if cmd_name not in VERBS:
            return None
        module, _, attribute = VERBS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve a verb, without importing every verb to suggest a near one (click's own way)."""
        if args[0] not in VERBS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], VERBS, n=1)
            did_you_mean = f" Did you mean '{near[0]}'?" if near else ""
            raise click.UsageError(f"No such command '{args[0]}'.{did_you_mean}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; one whose reader has seen enough (`selfhost ps | head -1`) did well: click exits with 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            output.drop_standard_output()
            return ExitCode.OK

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs with their short helps."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(verb, help_text) for verb, (_, help_text) in VERBS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with `selfhost up`. Every verb has examples: `selfhost up --help`.",
)
@click.version_option(__version__, prog_name="selfhost", message="%(prog)s %(version)s")
@click.option("--no-color", is_flag=True, help="No colours (also: NO_COLOR=1).")
@click.option("--debug", is_flag=True, help="Show the traceback of an error (also: SELFHOST_DEBUG=1).")
@click.pass_context
def cli(ctx: click.Context, *, no_color: bool, debug: bool) -> None:
    """Turn a declarative models.yaml into running, sized, verified vLLM deployments."""
    if no_color or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        ctx.color = False
    if debug:
        os.environ["SELFHOST_DEBUG"] = "1"


def run(args: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; every error ends here."""
    try:
        code = cli.main(args=args, prog_name="selfhost", standalone_mode=False)
    except SelfhostError as error:
        output.error(error)
        _show_traceback_if_asked()
        return error.exit_code
    except click.ClickException as error:
        shown = StringIO()
        error.show(shown)
        output.say(shown.getvalue().rstrip())
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        output.say("interrupted")
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 (the boundary: a defect of ours still ends in a sentence)
        output.error(
            SelfhostError(
                f"internal error: {type(error).__name__}: {error}",
                hint="this is a defect of selfhost; run again with SELFHOST_DEBUG=1 and report what it shows",
            )
        )
        _show_traceback_if_asked()
        return ExitCode.FAILED
    return code if isinstance(code, int) else ExitCode.OK


def main() -> NoReturn:
    """Entry point of the `selfhost` command."""
    _fill_standard_descriptors()
    sys.exit(run())


def _fill_standard_descriptors() -> None:
    """Have 0, 1 and 2 be something (`>&-` closes one): else a socket or a log becomes one, and talk goes into it."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stderr is None:  # standard output stays None: whoever must not lose what they write there can tell
        sys.stderr = os.fdopen(2, "w")


def _show_traceback_if_asked() -> None:
    if os.environ.get("SELFHOST_DEBUG"):
        output.say(traceback.format_exc().rstrip())
