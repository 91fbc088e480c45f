//! The files of the repository.

use std::path::Path;

/// Folders that hold nothing of ours.
const FOREIGN: [&str; 7] = ["target", ".git", ".services", "node_modules", ".venv", "dist", "corpus"];

/// One file: its path from the repository's root, and its text.
pub struct File {
    pub path: String,
    pub text: String,
}

/// Returns the text of a file, if it exists.
pub fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).ok()
}

/// Returns every file below a folder whose name has this end; none if the folder does not exist.
pub fn files(folder: &str, end: &str) -> Vec<File> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&folder);
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            let kind = entry.file_type().unwrap();
            if kind.is_dir() && !FOREIGN.contains(&name.as_str()) {
                folders.push(path);
            } else if kind.is_file()
                && name.ends_with(end)
                && let Some(text) = read(&path)
            {
                found.push(File { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}
