//! The device of a plugin, as `trainshed-tensor` wants one.

use std::any::Any;
use std::fmt;

use trainshed_tensor::{
    Accelerator, DeviceBuffer, DeviceError, DeviceMemory, DeviceProgram, Tensor,
};

use crate::cache::Cache;
use crate::client::{Buffer, Client, Loaded, PjrtError};

/// Runs tensor programs on the first device of a plugin.
#[derive(Debug)]
pub struct Pjrt {
    client: Client,
    cache: Option<Cache>,
    memory_limit: u64,
}

impl Pjrt {
    /// Keeps compiled programs in the folder `cache`, if there is one. A program may hold
    /// `memory_limit` bytes of the device, and never more than it has.
    pub fn new(client: Client, cache: Option<std::path::PathBuf>, memory_limit: u64) -> Self {
        let device = client.devices().into_iter().next();
        let memory = device.as_ref().and_then(|device| device.memory_bytes);
        Self {
            cache: cache.map(|folder| Cache::new(folder, &client)),
            memory_limit: memory_limit.min(memory.unwrap_or(u64::MAX)),
            client,
        }
    }
}

impl Accelerator for Pjrt {
    fn memory_limit(&self) -> u64 {
        self.memory_limit
    }

    fn compile(&self, text: &str) -> Result<Box<dyn DeviceProgram>, DeviceError> {
        let kept = self.cache.as_ref().and_then(|cache| cache.get(text));
        // What a newer driver does not take is compiled anew.
        if let Some(loaded) = kept.and_then(|bytes| self.client.load(&bytes).ok()) {
            return Ok(Box::new(Compiled(loaded)));
        }
        let loaded = self.client.compile(text)?;
        if let Some(cache) = &self.cache
            && let Ok(bytes) = loaded.serialize()
        {
            cache.put(text, &bytes);
        }
        Ok(Box::new(Compiled(loaded)))
    }

    fn upload(&self, tensor: &Tensor) -> Result<Box<dyn DeviceBuffer>, DeviceError> {
        let buffer = self
            .client
            .upload(tensor.dtype(), tensor.shape(), tensor.bytes())?;
        Ok(Box::new(OnDevice(buffer)))
    }
}

struct Compiled(Loaded);

impl fmt::Debug for Compiled {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Compiled({:?})", self.0.memory())
    }
}

impl DeviceProgram for Compiled {
    fn memory(&self) -> Option<DeviceMemory> {
        self.0.memory()
    }

    fn run(
        &self,
        arguments: &[(&dyn DeviceBuffer, bool)],
    ) -> Result<Vec<Box<dyn DeviceBuffer>>, DeviceError> {
        let mut buffers = Vec::with_capacity(arguments.len());
        for (place, (argument, donated)) in arguments.iter().enumerate() {
            let argument: &dyn Any = *argument;
            let Some(OnDevice(buffer)) = argument.downcast_ref() else {
                return Err(DeviceError::Failed(format!(
                    "argument {place} lies on another device"
                )));
            };
            buffers.push((buffer, *donated));
        }
        let results = self.0.run(&buffers)?;
        let boxed = |buffer| Box::new(OnDevice(buffer)) as Box<dyn DeviceBuffer>;
        Ok(results.into_iter().map(boxed).collect())
    }
}

struct OnDevice(Buffer);

impl DeviceBuffer for OnDevice {
    fn download(&self, shape: &[usize], bytes: &mut [u8]) -> Result<(), DeviceError> {
        Ok(self.0.download(shape.len(), bytes)?)
    }
}

impl From<PjrtError> for DeviceError {
    fn from(error: PjrtError) -> Self {
        if error.out_of_memory {
            Self::OutOfMemory(error.message)
        } else {
            Self::Failed(error.message)
        }
    }
}
