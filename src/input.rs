//! Files that are read, where `-` is stdin.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Returns whether the path stands for stdin or stdout.
pub(crate) fn is_standard(path: &Path) -> bool {
    path == Path::new("-")
}

/// An open input.
pub(crate) struct Source {
    /// Path, or `stdin`.
    pub(crate) name: String,
    pub(crate) reader: Box<dyn Read>,
    /// Size, where it is known.
    pub(crate) bytes: Option<u64>,
}

/// Opens a file, or stdin for `-`.
///
/// # Errors
/// It cannot be opened, or is a folder.
pub(crate) fn open(path: &Path) -> io::Result<Source> {
    if is_standard(path) {
        return Ok(Source { name: "stdin".to_owned(), reader: Box::new(io::stdin()), bytes: None });
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let bytes = metadata.is_file().then_some(metadata.len());
    Ok(Source { name: path.display().to_string(), reader: Box::new(file), bytes })
}
