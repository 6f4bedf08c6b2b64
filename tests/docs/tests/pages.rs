//! Every error code is explained, every explanation has its code, and no page links to nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn files(folder: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    let skip = ["target", "__pycache__", "snapshots"];
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if name.starts_with('.') || skip.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            files(&path, endings, found);
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        }
    }
}

/// Every `HALO-E` and four digits in a text.
fn codes(text: &str) -> BTreeSet<String> {
    let after = |(at, _): (usize, &str)| text.get(at..at + 10).map(str::to_owned);
    text.match_indices("HALO-E")
        .filter_map(after)
        .filter(|code| code[6..].chars().all(|digit| digit.is_ascii_digit()))
        .collect()
}

#[test]
fn every_error_code_is_explained_and_every_explanation_has_its_code() {
    let root = root();
    let mut sources = Vec::new();
    for room in [
        "crates",
        "packaging/src",
        "ffi/src",
        "benches/src",
        "cluster/src",
        "cluster/agent",
        "python/src",
        "python/python",
        "python/env",
        "tests",
    ] {
        files(&root.join(room), &[".rs", ".py"], &mut sources);
    }
    // Tests mention codes they expect; only what can say them counts.
    sources.retain(|path| !path.components().any(|part| part.as_os_str() == "docs"));
    let said: BTreeSet<String> =
        sources.iter().flat_map(|path| codes(&fs::read_to_string(path).unwrap())).collect();
    let page = fs::read_to_string(root.join("docs/errors.md")).unwrap();
    let explanations: Vec<String> =
        page.lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_owned).collect();
    let explained: BTreeSet<String> = explanations.iter().cloned().collect();
    assert_eq!(repeated(&explanations), [""; 0], "docs/errors.md explains these more than once");
    let unexplained: Vec<_> = said.difference(&explained).collect();
    assert!(unexplained.is_empty(), "docs/errors.md does not explain {unexplained:?}");
    let unsaid: Vec<_> = explained.difference(&said).collect();
    assert!(unsaid.is_empty(), "docs/errors.md explains what nothing says: {unsaid:?}");
}

/// Whoever looks a code up must find the error that was shown: a code is said by one error only.
#[test]
fn no_two_errors_have_one_code() {
    let (root, mut sources) = (root(), Vec::new());
    for room in ["crates", "packaging/src", "ffi/src", "benches/src", "cluster/src", "python/src", "tests"] {
        files(&root.join(room), &[".rs"], &mut sources);
    }
    let given: Vec<String> =
        sources.iter().flat_map(|path| given(&fs::read_to_string(path).unwrap())).collect();
    assert!(given.len() > 100, "the errors were found: {given:?}");
    assert_eq!(repeated(&given), [""; 0], "these are the codes of several errors");
}

/// The codes that a source gives its errors: those of miette's attribute.
fn given(source: &str) -> Vec<String> {
    source.split("code(\"").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

/// What is there more than once.
fn repeated(all: &[String]) -> Vec<&str> {
    let mut seen = BTreeSet::new();
    all.iter().map(String::as_str).filter(|one| !seen.insert(*one)).collect()
}

#[test]
fn no_page_links_to_a_file_that_is_not_there() {
    let root = root();
    let mut pages = Vec::new();
    files(&root, &[".md"], &mut pages);
    assert!(pages.len() > 5, "the pages were found");
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            assert!(page.parent().unwrap().join(file).exists(), "{} links to {link}", page.display());
        }
    }
}
