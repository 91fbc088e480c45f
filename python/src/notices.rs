//! Log lines of the publisher, kept in memory until a Python call takes them.
//!
//! A native thread that took the interpreter's lock for a log line would end the process at its exit.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

/// Maximum lines that are kept. The oldest are dropped.
const MAX_LINES: usize = 64;

/// Number of rings. A process that was forked may have inherited a locked ring, and uses the next.
const RINGS: usize = 8;

static LINES: [Mutex<VecDeque<(u8, String)>>; RINGS] = [const { Mutex::new(VecDeque::new()) }; RINGS];
static CURRENT: AtomicUsize = AtomicUsize::new(0);
/// Set while there may be lines.
static WAITING: AtomicBool = AtomicBool::new(false);
static OWNER: AtomicU32 = AtomicU32::new(0);

/// Begins to collect the lines of this process. Called when the module is imported.
pub(crate) fn collect() {
    OWNER.store(std::process::id(), Ordering::Relaxed);
    // Another import in the same process has set it already.
    let _ = tracing::subscriber::set_global_default(Collector);
}

/// Takes the ring of this process. `None` while another thread uses it: a line is not worth waiting for.
fn with_ring<T>(act: impl FnOnce(&mut VecDeque<(u8, String)>) -> T) -> Option<T> {
    let pid = std::process::id();
    if OWNER.swap(pid, Ordering::Relaxed) != pid {
        CURRENT.fetch_add(1, Ordering::Relaxed);
    }
    let ring = LINES.get(CURRENT.load(Ordering::Relaxed) % RINGS)?;
    ring.try_lock().ok().map(|mut lines| act(&mut lines))
}

/// Returns whether there are lines.
pub(crate) fn any() -> bool {
    WAITING.load(Ordering::Relaxed)
}

/// Takes the lines, each with Python's number of its level.
pub(crate) fn take() -> Vec<(u8, String)> {
    WAITING.store(false, Ordering::Relaxed);
    with_ring(|lines| lines.drain(..).collect()).unwrap_or_default()
}

fn add(level: u8, line: String) {
    with_ring(|lines| {
        if lines.len() == MAX_LINES {
            lines.pop_front();
        }
        lines.push_back((level, line));
    });
    WAITING.store(true, Ordering::Relaxed);
}

/// Subscriber that keeps the lines of the crate.
struct Collector;

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event()
            && *metadata.level() <= Level::INFO
            && (metadata.target().starts_with("cns_events") || metadata.target().starts_with("_native"))
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::INFO)
    }

    fn event(&self, event: &Event<'_>) {
        let level = match *event.metadata().level() {
            Level::ERROR => 40,
            Level::WARN => 30,
            _ => 20,
        };
        let mut line = Line::default();
        event.record(&mut line);
        add(level, line.message + &line.fields);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Text of a log line: the message, then its fields.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
