//! The terminal: whether it has colors and redraws lines, its width, progress bars, and text that it would act on.

pub(crate) mod bars;
pub(crate) mod checks;
pub(crate) mod dead_letters;
pub(crate) mod demo;
pub(crate) mod events;
pub(crate) mod output;
mod stream;
pub(crate) mod summaries;
pub(crate) mod table;
pub(crate) mod text;

pub(crate) use stream::{Stream, has_colors};
