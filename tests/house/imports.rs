//! Imports between files, and circles among them.
//!
//! A file imports another if it names an item of it: by `use`, or by a path. A name that a `mod.rs` re-exports (`pub use`)
//! leads to the file that defines it; the re-export itself is not an import unless the file also uses the name.

use std::collections::{BTreeMap, BTreeSet};

use crate::allowed::Finding;
use crate::tokens::{Token, tokens, without_tests};

/// A module: its path from the crate's root.
type Module = Vec<String>;

/// One imported name of a `use` declaration.
#[derive(Clone, Debug)]
struct Import {
    /// Module whose file has the declaration; inline modules count.
    module: Module,
    path: Vec<String>,
    /// Name in this module; `*` for all.
    alias: String,
    exported: bool,
}

/// One module's source.
struct Unit {
    file: String,
    imports: Vec<Import>,
    /// Paths in code outside of `use`, with the module that they stand in.
    paths: Vec<(Module, Vec<String>)>,
    /// Names that items of this file have.
    defined: BTreeSet<String>,
    /// Names that occur outside of `use` declarations.
    names: BTreeSet<String>,
}

/// The modules of a crate. A module chosen by features can have several files.
#[derive(Default)]
struct Crate {
    units: BTreeMap<Module, Vec<Unit>>,
    /// Inline modules, and the module whose file they are in.
    inline: BTreeMap<Module, Module>,
}

/// Files, and the files that each imports.
pub type Graph = BTreeMap<String, BTreeSet<String>>;

/// Reads a crate from its root file and returns the imports between its files.
pub fn graph(root: &str, read: &dyn Fn(&str) -> Option<String>) -> Graph {
    let mut all = Crate::default();
    load(&mut all, &Vec::new(), root, true, read);
    let mut graph = Graph::new();
    for unit in all.units.values().flatten() {
        let imports = graph.entry(unit.file.clone()).or_default();
        for import in &unit.imports {
            if import.exported && (import.alias == "*" || !unit.names.contains(&import.alias)) {
                continue;
            }
            imports.extend(all.files_of(&import.module, &import.path));
        }
        for (module, path) in &unit.paths {
            imports.extend(all.files_of(module, path));
        }
        imports.remove(&unit.file);
    }
    graph
}

/// Returns the groups of files that import each other, directly or through others.
pub fn circles(graph: &Graph) -> Vec<Finding> {
    let reach: BTreeMap<&str, BTreeSet<&str>> =
        graph.keys().map(|file| (file.as_str(), reachable(graph, file))).collect();
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for (file, reached) in &reach {
        if !reached.contains(file) || seen.contains(file) {
            continue;
        }
        let group: Vec<&str> = reached
            .iter()
            .copied()
            .filter(|other| reach.get(other).is_some_and(|back| back.contains(file)))
            .collect();
        seen.extend(group.iter().copied());
        let edges: Vec<String> = group
            .iter()
            .flat_map(|from| {
                graph[*from]
                    .iter()
                    .filter(|to| group.contains(&to.as_str()))
                    .map(move |to| format!("  {from} imports {to}"))
            })
            .collect();
        found.push(Finding::new(group.join("+"), group.len(), edges.join("\n")));
    }
    found
}

fn reachable<'a>(graph: &'a Graph, from: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&str> = graph.get(from).into_iter().flatten().map(String::as_str).collect();
    while let Some(file) = next.pop() {
        if reached.insert(file) {
            next.extend(graph.get(file).into_iter().flatten().map(String::as_str));
        }
    }
    reached
}

/// Reads a module's file and those of its children.
fn load(
    all: &mut Crate,
    module: &Module,
    file: &str,
    beside_its_children: bool,
    read: &dyn Fn(&str) -> Option<String>,
) {
    let Some(text) = read(file) else { panic!("{file}: no such file") };
    let mut unit = Unit {
        file: file.to_owned(),
        imports: Vec::new(),
        paths: Vec::new(),
        defined: BTreeSet::new(),
        names: BTreeSet::new(),
    };
    let tokens = path_attributes_kept(&text);
    let mut scanner = Scanner {
        tokens: &tokens,
        at: 0,
        module: module.clone(),
        file_module: module.clone(),
        unit: &mut unit,
        children: Vec::new(),
        inline: Vec::new(),
    };
    scanner.scan();
    let (children, inline) = (scanner.children, scanner.inline);
    for child in inline {
        all.inline.insert(child, module.clone());
    }
    all.units.entry(module.clone()).or_default().push(unit);
    let folder = folder_of_children(file, beside_its_children);
    for (name, path) in children {
        let chosen_by_path = path.is_some();
        let file = match path {
            Some(path) => format!("{}/{path}", file.rsplit_once('/').map_or("", |(folder, _)| folder)),
            None => [format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")]
                .into_iter()
                .find(|file| read(file).is_some())
                .unwrap_or_else(|| panic!("{file}: no file for mod {name}")),
        };
        load(all, &[module.clone(), vec![name]].concat(), &file, chosen_by_path, read);
    }
}

fn folder_of_children(file: &str, beside_its_children: bool) -> String {
    let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
    if beside_its_children || name == "mod.rs" {
        folder.to_owned()
    } else {
        file.trim_end_matches(".rs").to_owned()
    }
}

/// The tokens of a file, with the text of `#[path = "…"]` put back: strings are left out otherwise.
fn path_attributes_kept(text: &str) -> Vec<Token> {
    let mut all = tokens(text);
    let lines: Vec<&str> = text.lines().collect();
    for at in 0..all.len().saturating_sub(5) {
        let texts: Vec<&str> = all[at..at + 5].iter().map(|token| token.text.as_str()).collect();
        if texts == ["#", "[", "path", "=", "\"\""] {
            let path = lines[all[at + 4].line - 1].split('"').nth(1).unwrap_or_default().to_owned();
            all[at + 4].text = format!("\"{path}");
        }
    }
    without_tests(&all)
}

/// Walks over a file's tokens once.
struct Scanner<'a> {
    tokens: &'a [Token],
    at: usize,
    module: Module,
    file_module: Module,
    unit: &'a mut Unit,
    children: Vec<(String, Option<String>)>,
    inline: Vec<Module>,
}

impl Scanner<'_> {
    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }

    fn scan(&mut self) {
        let mut depth = 0_usize;
        let mut opened = Vec::new();
        let mut path_attribute = None;
        let mut exported = false;
        while self.at < self.tokens.len() {
            let text = self.text(self.at).to_owned();
            match text.as_str() {
                "{" => depth += 1,
                "}" => {
                    depth = depth.saturating_sub(1);
                    if opened.last() == Some(&depth) {
                        opened.pop();
                        self.module.pop();
                    }
                }
                "path" if self.text(self.at + 2).starts_with('"') && self.text(self.at + 2).len() > 2 => {
                    path_attribute = Some(self.text(self.at + 2)[1..].to_owned());
                }
                "pub" => {
                    exported = true;
                    if self.text(self.at + 1) == "("
                        && matches!(self.text(self.at + 2), "crate" | "super" | "self" | "in")
                    {
                        while self.text(self.at) != ")" {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    continue;
                }
                "mod" if self.text(self.at + 2) == ";" => {
                    self.children.push((self.text(self.at + 1).to_owned(), path_attribute.take()));
                    self.at += 3;
                    exported = false;
                    continue;
                }
                "mod" if self.text(self.at + 2) == "{" => {
                    let name = self.text(self.at + 1).to_owned();
                    self.module.push(name);
                    self.inline.push(self.module.clone());
                    opened.push(depth);
                    depth += 1;
                    self.at += 3;
                    exported = false;
                    continue;
                }
                "use" => {
                    self.at += 1;
                    self.use_tree(Vec::new(), exported);
                    exported = false;
                    continue;
                }
                "fn" | "struct" | "enum" | "trait" | "type" | "const" | "static" | "union" => {
                    let name = self.text(self.at + 1).to_owned();
                    self.unit.defined.insert(name);
                }
                "macro_rules" => {
                    let name = self.text(self.at + 2).to_owned();
                    self.unit.defined.insert(name);
                }
                _ => {}
            }
            exported = false;
            if self.is_path_start() {
                self.path();
            } else {
                if is_name(&text) {
                    self.unit.names.insert(text);
                }
                self.at += 1;
            }
        }
        debug_assert!(self.module == self.file_module || !opened.is_empty());
    }

    fn is_path_start(&self) -> bool {
        is_name(self.text(self.at))
            && self.text(self.at + 1) == "::"
            && (self.at == 0 || self.text(self.at - 1) != "::")
    }

    /// A path in code.
    fn path(&mut self) {
        let mut path = vec![self.text(self.at).to_owned()];
        self.unit.names.insert(path[0].clone());
        self.at += 1;
        while self.text(self.at) == "::" && is_name(self.text(self.at + 1)) {
            path.push(self.text(self.at + 1).to_owned());
            self.at += 2;
        }
        self.unit.paths.push((self.module.clone(), path));
    }

    /// The tree of a `use` declaration, from behind `use` or inside braces.
    fn use_tree(&mut self, prefix: Vec<String>, exported: bool) {
        let mut path = prefix;
        loop {
            let text = self.text(self.at).to_owned();
            self.at += 1;
            match text.as_str() {
                "{" => {
                    while self.text(self.at) != "}" && !self.text(self.at).is_empty() {
                        self.use_tree(path.clone(), exported);
                        if self.text(self.at) == "," {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                "*" => return self.import(path, "*".into(), exported),
                "::" => {}
                "" => return,
                name => {
                    if name != "self" || path.is_empty() {
                        path.push(name.to_owned());
                    }
                    match self.text(self.at) {
                        "::" => {}
                        "as" => {
                            let alias = self.text(self.at + 1).to_owned();
                            self.at += 2;
                            return self.import(path, alias, exported);
                        }
                        _ => {
                            let alias = path.last().cloned().unwrap_or_default();
                            return self.import(path, alias, exported);
                        }
                    }
                }
            }
        }
    }

    fn import(&mut self, path: Vec<String>, alias: String, exported: bool) {
        self.unit.imports.push(Import { module: self.module.clone(), path, alias, exported });
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

impl Crate {
    /// The files that a path leads to, seen from a module: none for other crates.
    fn files_of(&self, from: &Module, path: &[String]) -> Vec<String> {
        let files = self.resolve(from, path, 0);
        files.map(|module| self.units_of(&module).map(|unit| unit.file.clone()).collect()).unwrap_or_default()
    }

    fn exists(&self, module: &Module) -> bool {
        self.units.contains_key(module) || self.inline.contains_key(module)
    }

    fn units_of(&self, module: &Module) -> impl Iterator<Item = &Unit> {
        let file = self.inline.get(module).unwrap_or(module);
        self.units.get(file).into_iter().flatten()
    }

    /// The module that defines the item at the end of a path.
    fn resolve(&self, from: &Module, path: &[String], depth: usize) -> Option<Module> {
        // A chain of re-exports is short; a longer one is an import of itself.
        let (first, mut rest) = path.split_first()?;
        if depth > 16 {
            return None;
        }
        let mut module = match first.as_str() {
            "crate" => Vec::new(),
            "self" => from.clone(),
            "super" => parent(from)?,
            name => {
                let child = [from.clone(), vec![name.to_owned()]].concat();
                if self.exists(&child) {
                    child
                } else {
                    // A name that is imported here, such as a module or an enum whose variant is meant.
                    let import = self.imports_of(from).find(|import| {
                        import.alias == name
                            && import.path.first().is_some_and(|first| first != name || import.path.len() > 1)
                    })?;
                    let full = [&import.path[..], rest].concat();
                    return self.resolve(from, &full, depth + 1);
                }
            }
        };
        while let Some((next, after)) = rest.split_first() {
            if next == "super" {
                module = parent(&module)?;
                rest = after;
                continue;
            }
            let child = [module.clone(), vec![next.clone()]].concat();
            if self.exists(&child) {
                module = child;
                rest = after;
                continue;
            }
            return Some(self.definition(&module, next, after, depth).unwrap_or(module));
        }
        Some(module)
    }

    /// Follows the re-export of a name out of a module, if it is not defined there.
    fn definition(&self, module: &Module, name: &str, after: &[String], depth: usize) -> Option<Module> {
        if self.units_of(module).any(|unit| unit.defined.contains(name)) {
            return None;
        }
        if let Some(import) = self.imports_of(module).find(|import| import.alias == name) {
            let full = [&import.path[..], after].concat();
            return self.resolve(module, &full, depth + 1);
        }
        let globs = self.imports_of(module).filter(|import| import.alias == "*" && import.exported);
        globs
            .filter_map(|import| self.resolve(module, &import.path, depth + 1))
            .find(|target| self.units_of(target).any(|unit| unit.defined.contains(name)))
    }

    fn imports_of<'a>(&'a self, module: &'a Module) -> impl Iterator<Item = &'a Import> {
        self.units_of(module).flat_map(|unit| &unit.imports).filter(move |import| import.module == *module)
    }
}

fn parent(module: &Module) -> Option<Module> {
    let (_, parent) = module.split_last()?;
    Some(parent.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> Graph {
        let files: BTreeMap<String, String> =
            files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        graph("src/lib.rs", &|path| files.get(path).cloned())
    }

    fn names(graph: &Graph) -> Vec<String> {
        circles(graph).into_iter().map(|one| one.subject).collect()
    }

    #[test]
    fn a_circle_of_two_is_found() {
        let graph = of(&[
            ("src/lib.rs", "mod a; mod b;"),
            ("src/a.rs", "use crate::b::B; pub struct A;"),
            ("src/b.rs", "pub struct B; fn f() { let _ = super::a::A; }"),
        ]);
        assert_eq!(names(&graph), ["src/a.rs+src/b.rs"]);
    }

    #[test]
    fn a_circle_round_about_and_through_re_exports_is_found() {
        let graph = of(&[
            ("src/lib.rs", "pub mod a; pub mod b; pub mod c;"),
            ("src/a/mod.rs", "mod deep;\npub use deep::{Deep as Renamed, helper};"),
            ("src/a/deep.rs", "use crate::b::{self, B}; pub struct Deep; pub fn helper() -> B { b::make() }"),
            ("src/b.rs", "use crate::c; pub struct B; pub fn make() -> B { c::make() }"),
            ("src/c.rs", "use crate::a::Renamed; pub fn make() { Renamed }"),
        ]);
        assert_eq!(names(&graph), ["src/a/deep.rs+src/b.rs+src/c.rs"]);
        assert_eq!(graph["src/a/mod.rs"], BTreeSet::new(), "a re-export alone is not an import");
    }

    #[test]
    fn a_child_and_its_parent_can_be_a_circle() {
        let parent = |body: &str| {
            of(&[
                ("src/lib.rs", "mod a;"),
                (
                    "src/a/mod.rs",
                    &format!("mod child; pub use child::Child; pub const LIMIT: u8 = 1; {body}"),
                ),
                ("src/a/child.rs", "use super::LIMIT; pub struct Child([u8; LIMIT]);"),
            ])
        };
        assert!(names(&parent("")).is_empty());
        assert_eq!(names(&parent("fn f() -> Child { todo!() }")), ["src/a/child.rs+src/a/mod.rs"]);
    }

    #[test]
    fn globs_nested_uses_inline_modules_and_variants_are_resolved() {
        let graph = of(&[
            (
                "src/lib.rs",
                "mod a; mod b; #[cfg(feature = \"x\")]\n#[path = \"alt/one.rs\"]\nmod alt; #[cfg(not(feature = \"x\"))]\n#[path = \"alt/two.rs\"]\nmod alt;",
            ),
            ("src/alt/one.rs", "pub fn x() {}"),
            ("src/alt/two.rs", "pub fn x() {}"),
            ("src/a/mod.rs", "mod one; mod two; pub use self::one::*;"),
            ("src/a/one.rs", "pub enum Kind { New }"),
            (
                "src/a/two.rs",
                "use super::{Kind, super::b::{inner as renamed}}; fn f() { renamed::g(); Kind::New }",
            ),
            (
                "src/b.rs",
                "pub mod inner { use super::super::alt; pub fn g() { alt::x(); std::mem::swap() } }",
            ),
        ]);
        let of = |file: &str| graph[file].iter().map(String::as_str).collect::<Vec<_>>();
        assert_eq!(of("src/a/two.rs"), ["src/a/one.rs", "src/b.rs"]);
        assert_eq!(of("src/b.rs"), ["src/alt/one.rs", "src/alt/two.rs"]);
        assert!(names(&graph).is_empty());
    }

    #[test]
    fn tests_comments_and_strings_are_no_imports() {
        let graph = of(&[
            ("src/lib.rs", "mod a; mod b;"),
            ("src/a.rs", "use crate::b::B;"),
            (
                "src/b.rs",
                "/// [`crate::a::A`]\npub struct B; const S: &str = \"crate::a::A\";\n#[cfg(test)]\nmod tests { use crate::a::A; }",
            ),
        ]);
        assert!(names(&graph).is_empty());
    }
}
