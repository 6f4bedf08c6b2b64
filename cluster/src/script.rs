//! Programs of this crate that run on nodes: several Python modules each, sent as one text, which the node's interpreter
//! takes apart again. Nothing is written to its disk.

use std::sync::LazyLock;

use serde_json::json;

macro_rules! module {
    ($program:literal, $name:literal) => {
        ($name, include_str!(concat!("../agent/", $program, "/", $name, ".py")))
    };
    ($name:literal) => {
        ($name, include_str!(concat!("../agent/", $name, ".py")))
    };
}

/// What a node is like: read, never changed.
pub static FACTS: LazyLock<String> = LazyLock::new(|| {
    let modules = [
        module!("facts", "reading"),
        module!("facts", "machine"),
        module!("facts", "network"),
        module!("facts", "software"),
        module!("facts", "probes"),
    ];
    together(&modules, include_str!("../agent/facts/facts.py"))
});

/// Changes a node step by step, and takes the changes back.
pub static APPLY: LazyLock<String> =
    LazyLock::new(|| together(&[module!("apply", "journal")], include_str!("../agent/apply/apply.py")));

/// Starts processes, watches them, and leaves none behind.
pub static AGENT: LazyLock<String> = LazyLock::new(|| {
    let modules = [module!("ports"), module!("agent", "checks"), module!("agent", "tree")];
    together(&modules, include_str!("../agent/agent/agent.py"))
});

/// One rank of a measurement by halo-perf, and what the network card counted meanwhile.
pub static MEASURE: LazyLock<String> = LazyLock::new(|| {
    let modules = [module!("ports"), module!("measure", "counters")];
    together(&modules, include_str!("../agent/measure/measure.py"))
});

/// The same by RCCL, through PyTorch.
pub static RCCL: LazyLock<String> =
    LazyLock::new(|| together(&[module!("measure", "counters")], include_str!("../agent/rccl.py")));

/// Makes the modules first, in this order, and runs `main` last.
fn together(modules: &[(&str, &str)], main: &str) -> String {
    // A list of texts is written alike in JSON and in Python.
    format!(
        "import sys, types\nfor name, source in {}:\n    sys.modules[name] = types.ModuleType(name)\n    \
         exec(compile(source, name + '.py', 'exec'), vars(sys.modules[name]))\n{main}",
        json!(modules)
    )
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn modules_are_imported_as_from_files_and_quotes_come_through() {
        let modules =
            [("one", "WORDS = 'a \"b\" \\\\ ü'\n"), ("two", "from one import WORDS\nALL = WORDS + '!'\n")];
        let program = together(&modules, "import two\nprint(two.ALL, __name__)\n");
        let output = Command::new("python3").args(["-c", &program]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "a \"b\" \\ ü! __main__\n", "{output:?}");
    }

    #[test]
    fn a_reserved_port_is_given_to_nobody_else_and_can_be_listened_at() {
        // Of 28,232 ports (Linux's own range), 600 picked by chance are all different once in 600 tries.
        let main = "import socket\nfrom ports import reserve\nfound = reserve('127.0.0.1', 1) + \
                    sum((reserve('127.0.0.1', 3) for _ in range(200)), [])\n\
                    for port in found: socket.create_server(('127.0.0.1', port)).close()\n\
                    print(len(found), len(set(found)))\n";
        let output =
            Command::new("python3").args(["-c", &together(&[module!("ports")], main)]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "601 601\n", "{output:?}");
    }
}
