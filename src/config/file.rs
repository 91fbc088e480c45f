//! Files that hold a value, such as a secret that the platform mounts.

use std::path::Path;

/// First bytes of a file in UTF-16, which PowerShell's `>` writes.
const UTF_16: [&[u8]; 2] = [&[0xff, 0xfe], &[0xfe, 0xff]];

/// Returns the content of a file without the line end at its end.
///
/// # Errors
/// The problem, as the end of a line that names the file. It does not quote the content.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("cannot read the file: {error}"))?;
    if UTF_16.iter().any(|mark| bytes.starts_with(mark)) {
        return Err("the file is in UTF-16; save it as UTF-8 without a byte order mark".to_owned());
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| "the file is not UTF-8; save it as UTF-8 without a byte order mark".to_owned())?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err("the file is empty; write the value into it".to_owned());
    }
    Ok(text.to_owned())
}
