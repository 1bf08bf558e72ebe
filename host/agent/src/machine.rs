//! What this machine is, for the record of each run.

use nvml_wrapper::Nvml;
use sysinfo::{CpuRefreshKind, System};
use trainshed_core::resource::Machine;

/// What the system tells; what it does not tell is empty.
pub(crate) fn machine() -> Machine {
    let mut machine = Machine {
        trainshed: env!("CARGO_PKG_VERSION").to_owned(),
        os: System::long_os_version().unwrap_or_else(|_| std::env::consts::OS.to_owned()),
        cpu_features: cpu_features(),
        ..Machine::default()
    };
    if let Ok(mut system) = System::new() {
        system.refresh_memory();
        system.refresh_cpu_list(CpuRefreshKind::nothing());
        let cpus = system.cpus();
        machine.cpu = cpus
            .first()
            .map_or_else(String::new, |cpu| cpu.brand().trim().to_owned());
        machine.cores = u32::try_from(cpus.len()).unwrap_or(u32::MAX);
        machine.memory_bytes = system.total_memory();
    }
    if let Ok(gpus) = Nvml::init() {
        machine.gpu_driver = gpus.sys_driver_version().ok();
        let devices = (0..gpus.device_count().unwrap_or(0)).filter_map(|index| {
            let device = gpus.device_by_index(index).ok()?;
            device.name().ok()
        });
        machine.gpus = devices.collect();
    }
    machine
}

/// Extensions by which kernels are chosen as programs run.
fn cpu_features() -> Vec<String> {
    let mut features = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        let known = [
            ("sse4.2", is_x86_feature_detected!("sse4.2")),
            ("avx", is_x86_feature_detected!("avx")),
            ("avx2", is_x86_feature_detected!("avx2")),
            ("fma", is_x86_feature_detected!("fma")),
            ("f16c", is_x86_feature_detected!("f16c")),
            ("avx512f", is_x86_feature_detected!("avx512f")),
            ("avx512bw", is_x86_feature_detected!("avx512bw")),
            ("avx512dq", is_x86_feature_detected!("avx512dq")),
            ("avx512vl", is_x86_feature_detected!("avx512vl")),
            ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
            ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
        ];
        let present = known.into_iter().filter(|(_, is_there)| *is_there);
        features.extend(present.map(|(name, _)| name.to_owned()));
    }
    #[cfg(target_arch = "aarch64")]
    {
        let known = [
            ("neon", std::arch::is_aarch64_feature_detected!("neon")),
            ("fp16", std::arch::is_aarch64_feature_detected!("fp16")),
            ("bf16", std::arch::is_aarch64_feature_detected!("bf16")),
            ("sve", std::arch::is_aarch64_feature_detected!("sve")),
        ];
        let present = known.into_iter().filter(|(_, is_there)| *is_there);
        features.extend(present.map(|(name, _)| name.to_owned()));
    }
    features
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_processors_and_memory() {
        let machine = machine();
        assert!(machine.cores > 0 && machine.memory_bytes > 0, "{machine:?}");
        assert!(!machine.os.is_empty() && !machine.trainshed.is_empty());
    }
}
