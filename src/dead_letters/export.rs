//! The file that dead letters are exported to.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Failure to write an export.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to {path}", path = .path.display())]
pub struct ExportError {
    path: PathBuf,
    source: std::io::Error,
}

/// Place that an export is written to.
#[derive(Debug)]
pub struct ExportTarget {
    path: PathBuf,
    output: Output,
}

#[derive(Debug)]
enum Output {
    /// A pipe or a device, which is written to as it is.
    Stream(File),
    /// A file, which is replaced only when the export is complete.
    File(NamedTempFile),
}

impl ExportTarget {
    /// Opens a file, a pipe or a device. Of a link the file that it names is replaced; the file keeps its mode.
    ///
    /// # Errors
    /// It cannot be written to.
    pub fn open(path: &Path) -> Result<Self, ExportError> {
        let failed = |source| ExportError { path: path.to_owned(), source };
        let Ok(existing) = std::fs::metadata(path) else {
            let file = temporary_beside(path).map_err(failed)?;
            return Ok(ExportTarget { path: path.to_owned(), output: Output::File(file) });
        };
        if !existing.is_file() {
            let stream = File::options().write(true).open(path).map_err(failed)?;
            return Ok(ExportTarget { path: path.to_owned(), output: Output::Stream(stream) });
        }
        let path = std::fs::canonicalize(path).map_err(failed)?;
        let file = temporary_beside(&path).map_err(failed)?;
        file.as_file().set_permissions(existing.permissions()).map_err(failed)?;
        Ok(ExportTarget { path, output: Output::File(file) })
    }

    /// Writes a line.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn line(&mut self, line: &str) -> Result<(), ExportError> {
        let written = match &mut self.output {
            Output::Stream(stream) => writeln!(stream, "{line}"),
            Output::File(file) => writeln!(file, "{line}"),
        };
        written.map_err(|source| ExportError { path: self.path.clone(), source })
    }

    /// Completes the export and returns its path.
    ///
    /// # Errors
    /// The file cannot be put into its place.
    pub fn finish(self) -> Result<PathBuf, ExportError> {
        let ExportTarget { path, output } = self;
        if let Output::File(file) = output {
            let synced = file.as_file().sync_all();
            let placed = synced.and_then(|()| file.persist(&path).map(drop).map_err(|error| error.error));
            placed.map_err(|source| ExportError { path: path.clone(), source })?;
        }
        Ok(path)
    }
}

/// Creates a temporary file in the folder of `path`, so that it can be renamed to it.
fn temporary_beside(path: &Path) -> std::io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn export(path: &Path) {
        let mut target = ExportTarget::open(path).unwrap();
        target.line("one").unwrap();
        target.finish().unwrap();
    }

    #[test]
    fn links_and_modes_stay() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "old").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        export(&link);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "one\n");
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn an_incomplete_export_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "old").unwrap();
        let mut target = ExportTarget::open(&file).unwrap();
        target.line("one").unwrap();
        drop(target);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "old");
        export(Path::new("/dev/null"));
        assert!(ExportTarget::open(&folder.path().join("missing/file")).is_err());
    }
}
