//! Enough of Thrift's compact protocol to look at figures before anybody acts on them.
//!
//! Source: "Thrift compact protocol" of the Apache Thrift project's specifications.

/// Deepest nesting of structures.
const MAX_DEPTH: u32 = 24;

/// Bytes that are being read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compact<'a> {
    bytes: &'a [u8],
    place: usize,
    depth: u32,
}

/// Why bytes cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// They end too early.
    Short,
    /// They break the protocol's rules.
    Malformed,
}

/// The type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Flag(bool),
    Byte,
    Integer,
    Double,
    Binary,
    List,
    Map,
    Struct,
}

impl Kind {
    fn of(code: u8) -> Result<Self, Broken> {
        match code {
            1 => Ok(Self::Flag(true)),
            2 => Ok(Self::Flag(false)),
            3 => Ok(Self::Byte),
            4..=6 => Ok(Self::Integer),
            7 => Ok(Self::Double),
            8 => Ok(Self::Binary),
            9 | 10 => Ok(Self::List),
            11 => Ok(Self::Map),
            12 => Ok(Self::Struct),
            _ => Err(Broken::Malformed),
        }
    }
}

impl<'a> Compact<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            place: 0,
            depth: 0,
        }
    }

    /// How many bytes have been read.
    pub(crate) fn place(&self) -> usize {
        self.place
    }

    /// Reads a structure. `field` is given each field's number and kind, and answers whether it
    /// has read the field; one that it has not is skipped.
    ///
    /// # Errors
    /// The first byte that breaks a rule.
    pub(crate) fn fields(
        &mut self,
        mut field: impl FnMut(&mut Self, i64, Kind) -> Result<bool, Broken>,
    ) -> Result<(), Broken> {
        if self.depth == MAX_DEPTH {
            return Err(Broken::Malformed);
        }
        self.depth += 1;
        let mut number = 0_i64;
        loop {
            let header = self.byte()?;
            if header == 0 {
                self.depth -= 1;
                return Ok(());
            }
            number = match header >> 4 {
                0 => self.integer()?,
                step => number.saturating_add(step.into()),
            };
            let kind = Kind::of(header & 15)?;
            if !field(self, number, kind)? {
                self.skip(kind, false)?;
            }
        }
    }

    /// Reads a list's header: how many elements it has, of which kind. Each takes a byte at
    /// least, so that there are not more than bytes.
    ///
    /// # Errors
    /// The first byte that breaks a rule.
    pub(crate) fn list(&mut self) -> Result<(usize, Kind), Broken> {
        let header = self.byte()?;
        let count = match header >> 4 {
            15 => usize::try_from(self.unsigned()?).map_err(|_| Broken::Malformed)?,
            count => count.into(),
        };
        if count > self.bytes.len() - self.place {
            return Err(Broken::Short);
        }
        Ok((count, Kind::of(header & 15)?))
    }

    /// Reads a number of 16, 32 or 64 bits.
    ///
    /// # Errors
    /// The first byte that breaks a rule.
    pub(crate) fn integer(&mut self) -> Result<i64, Broken> {
        let value = self.unsigned()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// Reads how long bytes or a text are, and skips them.
    ///
    /// # Errors
    /// The first byte that breaks a rule.
    pub(crate) fn binary(&mut self) -> Result<usize, Broken> {
        let length = usize::try_from(self.unsigned()?).map_err(|_| Broken::Short)?;
        self.advance(length)?;
        Ok(length)
    }

    /// Skips a value. In a list a flag takes a byte, as a field it takes none.
    pub(crate) fn skip(&mut self, kind: Kind, in_list: bool) -> Result<(), Broken> {
        match kind {
            Kind::Flag(_) if !in_list => Ok(()),
            Kind::Flag(_) | Kind::Byte => self.byte().map(drop),
            Kind::Integer => self.unsigned().map(drop),
            Kind::Double => self.advance(8),
            Kind::Binary => self.binary().map(drop),
            Kind::List => {
                let (count, kind) = self.list()?;
                (0..count).try_for_each(|_| self.nested(|this| this.skip(kind, true)))
            }
            Kind::Map => {
                let count = self.unsigned()?;
                if count == 0 {
                    return Ok(());
                }
                if count > self.bytes.len() as u64 {
                    return Err(Broken::Short);
                }
                let kinds = self.byte()?;
                let (key, value) = (Kind::of(kinds >> 4)?, Kind::of(kinds & 15)?);
                (0..count).try_for_each(|_| {
                    self.nested(|this| {
                        this.skip(key, true)?;
                        this.skip(value, true)
                    })
                })
            }
            Kind::Struct => self.fields(|_, _, _| Ok(false)),
        }
    }

    fn nested(&mut self, read: impl FnOnce(&mut Self) -> Result<(), Broken>) -> Result<(), Broken> {
        if self.depth == MAX_DEPTH {
            return Err(Broken::Malformed);
        }
        self.depth += 1;
        read(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn advance(&mut self, count: usize) -> Result<(), Broken> {
        let place = self.place.checked_add(count).ok_or(Broken::Short)?;
        if place > self.bytes.len() {
            return Err(Broken::Short);
        }
        self.place = place;
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, Broken> {
        let byte = *self.bytes.get(self.place).ok_or(Broken::Short)?;
        self.place += 1;
        Ok(byte)
    }

    fn unsigned(&mut self) -> Result<u64, Broken> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Ok(value);
            }
        }
        Err(Broken::Malformed)
    }
}
