//! The arrows between the crates, as `docs/ARCHITECTURE.md` draws them.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

use crate::shed::root;

/// Heavy packages, and the crates that alone may import them.
const ONLY_IMPORTERS: &[(&str, &[&str])] = &[
    ("gemm", &["trainshed-tensor"]),
    ("libloading", &["trainshed-pjrt"]),
    ("image", &["trainshed-tables"]),
    ("parquet", &["trainshed-tables", "trainshed-export"]),
    ("pco", &["trainshed-series"]),
    ("trainshed-series", &["trainshed-store", "trainshed-wire"]),
    ("trainshed-tune", &["trainshed-engine"]),
    ("sqlx", &["trainshed-store"]),
    ("object_store", &["trainshed-store"]),
    ("wasmtime", &["trainshed-runtime"]),
    ("wasmtime-wasi", &["trainshed-runtime"]),
    ("cap-std", &["trainshed-runtime"]),
    ("axum", &["trainshed-server"]),
    // The store names it for what object stores are reached with.
    ("reqwest", &["trainshed-wire", "trainshed-store"]),
    ("clap", &["trainshed-cli", "trainshed-faults", "xtask"]),
    ("indicatif", &["trainshed-cli"]),
];

/// Crates, and what they never import, neither directly nor through another crate of ours.
const NEVER_IMPORTS: &[(&str, &[&str])] = &[
    ("trainshed-core", &["tokio", "async-trait", "trainshed-*"]),
    ("trainshed-tensor", &["tokio", "wasmtime", "trainshed-*"]),
    (
        "trainshed-pjrt",
        &["tokio", "wasmtime", "trainshed-core", "trainshed-runtime"],
    ),
    (
        "trainshed-tables",
        &["tokio", "wasmtime", "trainshed-store"],
    ),
    (
        "trainshed-export",
        &["tokio", "axum", "wasmtime", "trainshed-store"],
    ),
    (
        "trainshed-tune",
        &[
            "tokio",
            "async-trait",
            "trainshed-store",
            "trainshed-engine",
        ],
    ),
    (
        "trainshed-series",
        &["tokio", "sqlx", "trainshed-store", "trainshed-wire"],
    ),
    (
        "trainshed-store",
        &[
            "trainshed-runtime",
            "axum",
            "wasmtime",
            "trainshed-engine",
            "trainshed-wire",
        ],
    ),
    (
        "trainshed-runtime",
        &[
            "trainshed-store",
            "trainshed-engine",
            "trainshed-wire",
            "axum",
            "sqlx",
            "reqwest",
        ],
    ),
    (
        "trainshed-engine",
        &[
            "axum",
            "wasmtime",
            "clap",
            "trainshed-wire",
            "trainshed-runtime",
        ],
    ),
    (
        "trainshed-wire",
        &["trainshed-engine", "trainshed-store", "trainshed-runtime"],
    ),
    (
        "trainshed-server",
        &["wasmtime", "trainshed-runtime", "trainshed-agent"],
    ),
    (
        "trainshed-agent",
        &[
            "trainshed-store",
            "trainshed-engine",
            "trainshed-server",
            "axum",
            "sqlx",
        ],
    ),
];

/// The packages that each crate of ours imports directly, tests apart.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .unwrap();
    let packages = metadata.packages.into_iter().map(|package| {
        let normal = package
            .dependencies
            .into_iter()
            .filter(|import| import.kind == DependencyKind::Normal);
        (
            package.name.to_string(),
            normal.map(|import| import.name).collect(),
        )
    });
    packages.collect()
}

#[test]
fn heavy_packages_have_one_importer() {
    let imports = imports();
    for (heavy, allowed) in ONLY_IMPORTERS {
        let importers = imports
            .iter()
            .filter(|(_, imports)| imports.contains(*heavy))
            .map(|(name, _)| name.as_str());
        let others: Vec<&str> = importers
            .filter(|importer| !allowed.contains(importer))
            .collect();
        assert!(
            others.is_empty(),
            "{heavy} is imported by {others:?}, but belongs to {allowed:?}"
        );
    }
}

#[test]
fn arrows_between_crates_never_turn_back() {
    let imports = imports();
    for (name, never) in NEVER_IMPORTS {
        // `axum` in the server reaches the CLI through the server alone; ours are followed.
        let mut reached: BTreeSet<&str> = BTreeSet::new();
        let mut open = vec![*name];
        while let Some(next) = open.pop() {
            for import in imports
                .get(next)
                .unwrap_or_else(|| panic!("there is no crate {next}"))
            {
                if reached.insert(import) && import.starts_with("trainshed-") {
                    open.push(import);
                }
            }
        }
        // What the store brings to the engine and the engine to the server is theirs to bring;
        // only what a crate may not know at all is looked for beyond the first step.
        let direct = &imports[*name];
        for forbidden in *never {
            let found = match forbidden.strip_suffix('*') {
                Some(prefix) => direct.iter().any(|import| import.starts_with(prefix)),
                None if forbidden.starts_with("trainshed-") => reached.contains(forbidden),
                None => direct.contains(*forbidden),
            };
            assert!(!found, "{name} imports {forbidden}");
        }
    }
}

#[test]
fn the_committed_bindings_are_those_of_the_contract() {
    xtask::bindings::check(root()).unwrap();
}
