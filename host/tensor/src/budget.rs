use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ProgramError;

/// The host memory that one task may hold in tensors and workspaces.
///
/// Clones share one account. Storage is charged when it is made and given back when the
/// last tensor that uses it is dropped.
#[derive(Debug, Clone)]
pub struct Budget {
    account: Arc<Account>,
}

#[derive(Debug)]
struct Account {
    limit: u64,
    used: AtomicU64,
    peak: AtomicU64,
}

impl Budget {
    /// Opens an account with a limit in bytes.
    pub fn new(limit_bytes: u64) -> Self {
        Self {
            account: Arc::new(Account {
                limit: limit_bytes,
                used: AtomicU64::new(0),
                peak: AtomicU64::new(0),
            }),
        }
    }

    /// Bytes charged now.
    pub fn used(&self) -> u64 {
        self.account.used.load(Ordering::Relaxed)
    }

    /// Bytes that may be charged at most.
    pub fn limit(&self) -> u64 {
        self.account.limit
    }

    /// The most bytes that were charged at one time.
    pub fn peak(&self) -> u64 {
        self.account.peak.load(Ordering::Relaxed)
    }

    /// Charges memory that is not a tensor's, for what the task has done outside programs.
    ///
    /// # Errors
    /// [`ProgramError::OutOfMemory`].
    pub fn reserve(&self, bytes: u64) -> Result<Reservation, ProgramError> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let charge = self.charge(bytes)?;
        Ok(Reservation { _charge: charge })
    }

    pub(crate) fn charge(&self, bytes: usize) -> Result<Charge, ProgramError> {
        let bytes = bytes as u64;
        let account = &*self.account;
        let charged = account
            .used
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|&sum| sum <= account.limit)
            });
        match charged {
            Ok(before) => {
                account.peak.fetch_max(before + bytes, Ordering::Relaxed);
                Ok(Charge {
                    bytes,
                    budget: self.clone(),
                })
            }
            Err(used) => Err(ProgramError::OutOfMemory {
                needed: used.saturating_add(bytes),
                allowed: account.limit,
            }),
        }
    }
}

/// Bytes taken from a budget by [`Budget::reserve`]; dropping it gives them back.
#[derive(Debug)]
pub struct Reservation {
    _charge: Charge,
}

/// Bytes taken from a budget; dropping it gives them back.
#[derive(Debug)]
pub(crate) struct Charge {
    bytes: u64,
    budget: Budget,
}

impl Charge {
    /// What the account it is taken from allows.
    pub(crate) fn limit(&self) -> u64 {
        self.budget.limit()
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let used = &self.budget.account.used;
        used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
