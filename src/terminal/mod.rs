//! The terminal: whether it has colors and redraws lines, its width, progress bars, and text that it would act on.

pub(crate) mod bars;
mod stream;
pub(crate) mod summaries;
pub(crate) mod table;
pub(crate) mod text;

pub(crate) use stream::{Stream, has_colors};
