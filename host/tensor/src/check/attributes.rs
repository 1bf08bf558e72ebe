use super::shortened;
use crate::shape::{Dims, MAX_RANK};
use crate::{Attribute, DType};

/// The most attributes that any operation takes is far below this.
const MAX_ATTRIBUTES: usize = 32;

/// The attributes of one instruction, each of which must be read once.
pub(crate) struct Attributes<'a> {
    list: &'a [(String, Attribute)],
    read: u32,
}

impl<'a> Attributes<'a> {
    pub(super) fn new(list: &'a [(String, Attribute)]) -> Self {
        Self { list, read: 0 }
    }

    /// The error names an attribute that the operation does not have, or one given twice.
    pub(super) fn finish(&self) -> Result<(), String> {
        let unread = |place: &usize| *place >= MAX_ATTRIBUTES || self.read & (1 << place) == 0;
        let Some(place) = (0..self.list.len()).find(unread) else {
            return Ok(());
        };
        let name = &self.list[place].0;
        let again = self.list[..place].iter().any(|(other, _)| other == name);
        let name = shortened(name);
        Err(if again {
            format!("attribute `{name}` is given twice")
        } else {
            format!("there is no attribute `{name}`")
        })
    }

    pub(super) fn optional(&mut self, name: &str) -> Option<&'a Attribute> {
        let place = self
            .list
            .iter()
            .take(MAX_ATTRIBUTES)
            .position(|(other, _)| other == name)?;
        self.read |= 1 << place;
        Some(&self.list[place].1)
    }

    fn required(&mut self, name: &str) -> Result<&'a Attribute, String> {
        self.optional(name)
            .ok_or_else(|| format!("attribute `{name}` is missing"))
    }

    /// A number of things: an integer from 0.
    pub(super) fn natural(&mut self, name: &str) -> Result<usize, String> {
        match self.required(name)? {
            Attribute::Integer(value) => natural(name, *value),
            other => Err(wrong_kind(name, "an integer", other)),
        }
    }

    /// A finite number.
    pub(super) fn number(&mut self, name: &str) -> Result<f64, String> {
        match self.required(name)? {
            Attribute::Number(value) if value.is_finite() => Ok(*value),
            Attribute::Number(value) => Err(format!(
                "attribute `{name}` is {value}, but it must be finite"
            )),
            #[expect(clippy::cast_precision_loss, reason = "rounded to nearest")]
            Attribute::Integer(value) => Ok(*value as f64),
            other => Err(wrong_kind(name, "a number", other)),
        }
    }

    /// Yes or no.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, String> {
        match self.required(name)? {
            Attribute::Flag(flag) => Ok(*flag),
            other => Err(wrong_kind(name, "a flag", other)),
        }
    }

    pub(super) fn integers(&mut self, name: &str) -> Result<&'a [i64], String> {
        match self.required(name)? {
            Attribute::Integers(values) => Ok(values),
            other => Err(wrong_kind(name, "a list of integers", other)),
        }
    }

    /// At most [`MAX_RANK`] integers from 0.
    pub(super) fn dims(&mut self, name: &str) -> Result<Dims, String> {
        let integers = self.integers(name)?;
        if integers.len() > MAX_RANK {
            return Err(format!(
                "attribute `{name}` has {} entries, but the rank may be at most {MAX_RANK}",
                integers.len()
            ));
        }
        let mut dims = Dims::default();
        for &value in integers {
            dims.push(natural(name, value)?);
        }
        Ok(dims)
    }

    /// One integer from 0 per dimension.
    pub(super) fn per_dimension(&mut self, name: &str, rank: usize) -> Result<Dims, String> {
        let dims = self.dims(name)?;
        need_entries(name, dims.len(), rank)?;
        Ok(dims)
    }

    /// One integer per dimension, which may be negative.
    pub(super) fn signed_per_dimension(
        &mut self,
        name: &str,
        rank: usize,
    ) -> Result<&'a [i64], String> {
        let values = self.integers(name)?;
        need_entries(name, values.len(), rank)?;
        Ok(values)
    }

    /// One axis below `rank`.
    pub(super) fn axis(&mut self, name: &str, rank: usize) -> Result<usize, String> {
        let axis = self.natural(name)?;
        in_rank(name, axis, rank)?;
        Ok(axis)
    }

    /// Different axes below `rank`, in any order.
    pub(super) fn axes(&mut self, name: &str, rank: usize) -> Result<Dims, String> {
        let axes = self.dims(name)?;
        for (place, &axis) in axes.iter().enumerate() {
            in_rank(name, axis, rank)?;
            if axes[..place].contains(&axis) {
                return Err(format!(
                    "attribute `{name}` is {axes:?}: {axis} is twice in it"
                ));
            }
        }
        Ok(axes)
    }

    /// Axes below `rank` that strictly increase.
    pub(super) fn increasing_axes(&mut self, name: &str, rank: usize) -> Result<Dims, String> {
        let axes = self.axes(name, rank)?;
        if !axes.is_sorted() {
            return Err(format!(
                "attribute `{name}` is {axes:?}, but it must increase"
            ));
        }
        Ok(axes)
    }

    pub(super) fn dtype(&mut self, name: &str) -> Result<DType, String> {
        match self.required(name)? {
            Attribute::Text(text) => DType::parse(text).ok_or_else(|| {
                let known = DType::ALL.map(DType::name).join(", ");
                format!(
                    "attribute `{name}` is `{}`, but it must be one of {known}",
                    shortened(text)
                )
            }),
            other => Err(wrong_kind(name, "the name of an element type", other)),
        }
    }
}

pub(super) fn wrong_kind(name: &str, expected: &str, found: &Attribute) -> String {
    let found = match found {
        Attribute::Integer(_) => "an integer",
        Attribute::Integers(_) => "a list of integers",
        Attribute::Number(_) => "a number",
        Attribute::Text(_) => "a text",
        Attribute::Flag(_) => "a flag",
        Attribute::Bytes(_) => "bytes",
    };
    format!("attribute `{name}` must be {expected}, but it is {found}")
}

fn natural(name: &str, value: i64) -> Result<usize, String> {
    usize::try_from(value)
        .map_err(|_| format!("attribute `{name}` holds {value}, but it may not be negative"))
}

fn need_entries(name: &str, found: usize, rank: usize) -> Result<(), String> {
    if found == rank {
        return Ok(());
    }
    Err(format!(
        "attribute `{name}` has {found} entries, but it must have one per dimension, {rank}"
    ))
}

fn in_rank(name: &str, axis: usize, rank: usize) -> Result<(), String> {
    if axis < rank {
        return Ok(());
    }
    Err(format!(
        "attribute `{name}` names axis {axis}, but the rank is {rank}"
    ))
}
