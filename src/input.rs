//! Files that are read, where `-` is stdin.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Returns whether the path stands for stdin or stdout.
pub(crate) fn is_standard(path: &Path) -> bool {
    path == Path::new("-")
}

/// Opens a file, or stdin for `-`, and returns its size where it is known.
///
/// # Errors
/// It cannot be opened, or is a folder.
pub(crate) fn open(path: &Path) -> io::Result<(Box<dyn Read>, Option<u64>)> {
    if is_standard(path) {
        return Ok((Box::new(io::stdin()), None));
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok((Box::new(file), metadata.is_file().then_some(metadata.len())))
}
