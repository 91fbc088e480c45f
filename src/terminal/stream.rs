//! Standard streams: whether they have colors and redraw lines.

use std::io::IsTerminal as _;

use anstream::{AutoStream, ColorChoice};

/// A standard stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub(super) fn is_terminal(self) -> bool {
        match self {
            Stream::Stdout => std::io::stdout().is_terminal(),
            Stream::Stderr => std::io::stderr().is_terminal(),
        }
    }
}

/// Returns whether output has colors: on a terminal, unless `NO_COLOR` is set, `CLICOLOR` is 0 or `TERM` is dumb; anywhere if
/// `CLICOLOR_FORCE` is set. The help of the command line follows the same rules.
pub(crate) fn has_colors(stream: Stream) -> bool {
    let choice = match stream {
        Stream::Stdout => AutoStream::choice(&std::io::stdout()),
        Stream::Stderr => AutoStream::choice(&std::io::stderr()),
    };
    choice != ColorChoice::Never
}

/// Returns whether a line can be drawn again: not where `TERM` is dumb.
pub(super) fn can_redraw(stream: Stream) -> bool {
    stream.is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
