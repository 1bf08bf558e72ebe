//! From what the compiler writes to a component that a host can run.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::{ComponentEncoder, DecodedWasm};

/// Why a compiled plugin is not a component that a host would run.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    /// The compiler's output is damaged or does not fit the plugin contract.
    #[error("{0}")]
    Malformed(String),
    /// It wants something that no host offers.
    #[error("it imports {}, but a plugin may import only `trainshed:plugin/*` and `wasi:*`", .0.join(", "))]
    ForeignImports(Vec<String>),
}

/// Wraps a core module into a component, leaves a component as it is; the component and
/// the names of its imports, in their order.
pub(super) fn from_compiled(compiled: Vec<u8>) -> Result<(Vec<u8>, Vec<String>), ComponentError> {
    let component = if is_component(&compiled) {
        compiled
    } else {
        wrap(&compiled)?
    };
    let imports = imports(&component)?;
    let foreign: Vec<String> = imports
        .iter()
        .filter(|name| !is_offered(name))
        .map(|name| format!("`{name}`"))
        .collect();
    if foreign.is_empty() {
        Ok((component, imports))
    } else {
        Err(ComponentError::ForeignImports(foreign))
    }
}

/// The layer field of the header tells a component (1) from a core module (0).
fn is_component(bytes: &[u8]) -> bool {
    bytes.get(..8) == Some(b"\0asm\x0d\0\x01\0")
}

fn wrap(module: &[u8]) -> Result<Vec<u8>, ComponentError> {
    let encoded = ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|encoder| {
            encoder.adapter(
                WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
                WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
            )
        })
        .and_then(|mut encoder| encoder.encode());
    encoded.map_err(|error| ComponentError::Malformed(format!("{error:#}")))
}

fn imports(component: &[u8]) -> Result<Vec<String>, ComponentError> {
    let decoded = wit_component::decode(component)
        .map_err(|error| ComponentError::Malformed(format!("{error:#}")))?;
    let DecodedWasm::Component(resolve, world) = decoded else {
        let what = "it is a WIT package, not a component";
        return Err(ComponentError::Malformed(what.to_owned()));
    };
    let keys = resolve.worlds[world].imports.keys();
    Ok(keys.map(|key| resolve.name_world_key(key)).collect())
}

fn is_offered(import: &str) -> bool {
    import.starts_with("trainshed:plugin/") || import.starts_with("wasi:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_module_is_wrapped_and_a_component_is_left_as_it_is() {
        let module = b"\0asm\x01\0\0\0".to_vec();
        let (component, imports) = from_compiled(module).unwrap();
        assert!(is_component(&component));
        assert!(imports.is_empty());
        assert_eq!(from_compiled(component.clone()).unwrap().0, component);
    }

    #[test]
    fn bytes_that_are_no_module_are_an_error() {
        for bytes in [&b""[..], b"\0asm", b"not a module at all"] {
            let result = from_compiled(bytes.to_vec());
            assert!(matches!(result, Err(ComponentError::Malformed(_))));
        }
    }

    #[test]
    fn only_imports_of_the_contract_and_of_wasi_are_offered() {
        assert!(is_offered("trainshed:plugin/run@0.1.0"));
        assert!(is_offered("wasi:cli/stdout@0.2.12"));
        assert!(!is_offered("trainshed:pluginx/run@0.1.0"));
        assert!(!is_offered("env"));
    }
}
