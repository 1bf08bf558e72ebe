//! What the tests of all formats share.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic;
use std::sync::Once;
use std::sync::atomic::AtomicBool;

use expect_test::Expect;
use half::{bf16, f16};
use tempfile::TempDir;
use trainshed_tensor::{Budget, DType, Tensor};

use crate::{ImageOptions, Reader, Table, TableError};

pub(crate) static NEVER: AtomicBool = AtomicBool::new(false);

/// What the tasks of hostile files may hold.
pub(crate) const SMALL: u64 = 16 << 20;
/// What readers may take beside: buffers whose size no file decides, and decoders' own limits.
const UNCHARGED: usize = 24 << 20;

/// Counts what each thread holds, so that tests notice memory that was taken without charge.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
    static IS_READING: Cell<bool> = const { Cell::new(false) };
}

fn count(more: usize, less: usize) {
    // What another thread took is not known here.
    let held = HELD.get().saturating_add(more).saturating_sub(less);
    HELD.set(held);
    MOST.set(MOST.get().max(held));
}

#[expect(
    unsafe_code,
    reason = "the trait is unsafe: all calls go to the system's allocator"
)]
// SAFETY: every function passes its arguments on to `System`, and `count` allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.realloc(place, layout, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(place, layout) }
    }
}

/// What `read` answers; fails when it held more than a small task may and readers take.
#[track_caller]
pub(crate) fn within_memory<R>(read: impl FnOnce() -> R) -> R {
    // A panic that readers catch would fill memory with the symbols of its backtrace.
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| match IS_READING.get() {
            true => eprintln!("{info}"),
            false => usual(info),
        }));
    });
    let before = HELD.get();
    MOST.set(before);
    IS_READING.set(true);
    let answer = read();
    IS_READING.set(false);
    let most = MOST.get() - before;
    let allowed = usize::try_from(SMALL).unwrap() + UNCHARGED;
    assert!(
        most <= allowed,
        "{most} bytes were taken, but {allowed} may be"
    );
    answer
}

/// A data set of a test, with what its task may hold.
pub(crate) struct Files {
    pub(crate) folder: TempDir,
    pub(crate) budget: Budget,
}

impl Files {
    pub(crate) fn new(files: &[(&str, &[u8])]) -> Self {
        Self::with_budget(files, 64 << 20)
    }

    pub(crate) fn with_budget(files: &[(&str, &[u8])], bytes: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        Self {
            folder,
            budget: Budget::new(bytes),
        }
    }

    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader {
            folder: self.folder.path(),
            budget: &self.budget,
            stop: &NEVER,
        }
    }

    /// The only table.
    pub(crate) fn table(&self) -> Table {
        let mut tables = self.reader().survey().unwrap();
        assert_eq!(tables.len(), 1);
        tables.remove(0)
    }
}

/// Compares what the tables are, a line per column.
#[track_caller]
pub(crate) fn check_survey(files: &[(&str, &[u8])], expected: Expect) {
    let files = Files::new(files);
    let text = match files.reader().survey() {
        Ok(tables) => tables.iter().map(described).collect(),
        Err(error) => format!("{error:?}\n"),
    };
    expected.assert_eq(&text);
    assert_eq!(files.budget.used(), 0);
}

fn described(table: &Table) -> String {
    let mut text = format!("{} {}\n", table.path, table.rows);
    for column in &table.columns {
        let (kind, shape) = (column.kind, &column.shape);
        text += &format!(
            "    {}: {kind:?} ({}) {shape:?}\n",
            column.name, column.element
        );
    }
    text
}

/// Compares shape and bytes of a tensor, or the error.
#[track_caller]
pub(crate) fn check_tensor(loaded: Result<Tensor, TableError>, expected: Expect) {
    expected.assert_eq(&match loaded {
        Ok(tensor) => format!("{:?} {:?}", tensor.shape(), numbers(&tensor)),
        Err(error) => format!("{error:?}"),
    });
}

/// All elements, as numbers.
pub(crate) fn numbers(tensor: &Tensor) -> Vec<f64> {
    let bytes = tensor.bytes();
    let elements = bytes.chunks_exact(tensor.dtype().size());
    elements
        .map(|element| match tensor.dtype() {
            DType::F32 => f32::from_le_bytes(element.try_into().unwrap()).into(),
            DType::F64 => f64::from_le_bytes(element.try_into().unwrap()),
            DType::Bf16 => bf16::from_le_bytes(element.try_into().unwrap()).to_f64(),
            DType::F16 => f16::from_le_bytes(element.try_into().unwrap()).to_f64(),
            DType::I32 => i32::from_le_bytes(element.try_into().unwrap()).into(),
            DType::U32 => u32::from_le_bytes(element.try_into().unwrap()).into(),
            #[expect(clippy::cast_precision_loss, reason = "tests have small numbers")]
            DType::I64 => i64::from_le_bytes(element.try_into().unwrap()) as f64,
            DType::U8 | DType::Bool => element[0].into(),
        })
        .collect()
}

/// Surveys damaged files, and loads all there is. An error is as good as a tensor; a panic, a
/// charge that is not given back and memory beyond the task's are not.
#[track_caller]
pub(crate) fn survive(name: &str, content: &[u8]) {
    let files = Files::with_budget(&[(name, content)], SMALL);
    within_memory(|| load_all(&files.reader()));
    assert_eq!(files.budget.used(), 0);
}

fn load_all(reader: &Reader) {
    let tables = reader.survey().unwrap_or_default();
    for table in &tables {
        for column in &table.columns {
            let name = &column.name;
            let _ = reader.load(table, std::slice::from_ref(name), DType::F32);
            let _ = reader.load_array(table, name, DType::F32);
            let _ = reader.load_images(table, name, ImageOptions::default());
            let _ = reader.load_classes(table, name, None);
            let _ = reader.texts(table, name, 1, 3);
        }
    }
}

/// Feeds `content` with each of some hundreds of faults: cut off, or with a byte changed.
pub(crate) fn survive_damage(name: &str, content: &[u8]) {
    survive(name, content);
    let steps = content.len().div_ceil(80);
    for end in (0..content.len()).step_by(steps.max(1)) {
        survive(name, &content[..end]);
    }
    for place in (0..content.len()).step_by(steps.max(1)) {
        for change in [0xff, 0x01] {
            let mut damaged = content.to_vec();
            damaged[place] ^= change;
            survive(name, &damaged);
        }
    }
}
