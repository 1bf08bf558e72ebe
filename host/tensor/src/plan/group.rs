//! Groups of elementwise operations, and how a group becomes a kernel.

use super::lower::{Source, View};
use crate::DType;
use crate::cpu::{
    Fused, Instruction, Load, MOST_OPERANDS, MomentStep, Moments, Operand, Scalar, ScalarSource,
    Store, TileOp, ValueId,
};
use crate::ir::{Binary, Element, Unary};
use crate::shape::Dims;

/// Elementwise operations over one shape that will be one kernel.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) shape: Dims,
    pub(super) members: Vec<Member>,
    /// When something outside first read a member. Since then, only operations whose other
    /// operands were ready before may join.
    pub(super) sealed_at: Option<usize>,
    pub(super) merged_into: Option<usize>,
}

#[derive(Debug, Clone)]
pub(super) struct Member {
    time: usize,
    pub(super) value: ValueId,
    dtype: DType,
    pub(super) kind: MemberKind,
}

impl Member {
    /// What it is computed from.
    pub(super) fn operands(&self) -> &[Source] {
        match &self.kind {
            MemberKind::Iota { .. } => &[],
            MemberKind::Random { key, .. } => key,
            MemberKind::Operation { operands, .. } => operands,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum MemberKind {
    Iota {
        inner: usize,
        size: usize,
    },
    /// Random bits that follow from the two words of a key.
    Random {
        key: [Source; 2],
        stream: u32,
    },
    Operation {
        op: TileOp,
        from: DType,
        operands: Vec<Source>,
    },
}

impl Group {
    pub(super) fn new(shape: Dims) -> Self {
        Self {
            shape,
            members: Vec::new(),
            sealed_at: None,
            merged_into: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether the group's kernel can run just before its first reader: a group that was
    /// made for that reader, at the same time, cannot.
    pub(super) fn may_be_joined_late(&self) -> bool {
        let mut members = self.members.iter();
        members.all(|member| Some(member.time) != self.sealed_at)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn push_operation(
        &mut self,
        time: usize,
        value: ValueId,
        op: TileOp,
        [from, to]: [DType; 2],
        operands: &[Source],
    ) {
        self.members.push(Member {
            time,
            value,
            dtype: to,
            kind: MemberKind::Operation {
                op,
                from,
                operands: operands.to_vec(),
            },
        });
    }

    pub(super) fn push_iota(
        &mut self,
        time: usize,
        value: ValueId,
        dtype: DType,
        inner: usize,
        size: usize,
    ) {
        self.members.push(Member {
            time,
            value,
            dtype,
            kind: MemberKind::Iota { inner, size },
        });
    }

    pub(super) fn push_random(
        &mut self,
        time: usize,
        value: ValueId,
        key: [Source; 2],
        stream: u32,
    ) {
        self.members.push(Member {
            time,
            value,
            dtype: DType::U32,
            kind: MemberKind::Random { key, stream },
        });
    }

    /// Computes what a member of another group computes, under the name `value`, instead of
    /// reading it.
    pub(super) fn compute(&mut self, other: &Member, value: ValueId) {
        let shape = self.shape;
        let mut first = self.members.len();
        for (place, user) in self.members.iter_mut().enumerate() {
            let MemberKind::Operation { operands, .. } = &mut user.kind else {
                continue;
            };
            for source in operands {
                if matches!(source, Source::View(view) if view.value == other.value) {
                    *source = Source::View(View::whole(value, &shape));
                    first = first.min(place);
                }
            }
        }
        // It may be as old as its first user, which stays behind it.
        let member = Member {
            value,
            ..other.clone()
        };
        self.members.insert(first, member);
    }

    /// The group as a kernel, and when it runs, in half steps of the clock: at the time of
    /// its newest member, or just before it was first read; none when nothing of it is
    /// stored.
    pub(super) fn finish(&mut self, stored: &dyn Fn(ValueId) -> bool) -> Option<(usize, Fused)> {
        self.members.sort_by_key(|member| member.time);
        let newest = self.members.last()?.time;
        let time = match self.sealed_at {
            Some(sealed_at) if newest > sealed_at => 2 * sealed_at - 1,
            _ => 2 * newest,
        };
        let mut uses = self.count_uses(stored);
        self.combine_products(stored, &mut uses);
        let mut builder = Builder::default();
        for (place, member) in self.members.iter().enumerate() {
            if uses[place] > 0 || stored(member.value) {
                builder.push(member, &self.shape);
            }
        }
        let results = builder.results.clone();
        let stores = results.into_iter().filter(|result| stored(result.value));
        builder.stores = stores.collect();
        if builder.stores.is_empty() {
            return None;
        }
        Some((time, builder.finish(&self.shape)))
    }

    pub(super) fn place(&self, value: ValueId) -> Option<usize> {
        self.members.iter().position(|member| member.value == value)
    }

    /// The member that an operand is.
    fn member_of(&self, source: &Source) -> Option<usize> {
        match source {
            Source::View(view) => self.place(view.value),
            Source::Literal(_) => None,
        }
    }

    /// How often each member is an operand of a member that is needed.
    fn count_uses(&self, stored: &dyn Fn(ValueId) -> bool) -> Vec<usize> {
        let mut uses = vec![0; self.members.len()];
        for (place, member) in self.members.iter().enumerate().rev() {
            if uses[place] == 0 && !stored(member.value) {
                continue;
            }
            if let MemberKind::Operation { operands, .. } = &member.kind {
                for operand in operands.iter().filter_map(|source| self.member_of(source)) {
                    uses[operand] += 1;
                }
            }
        }
        uses
    }

    /// Turns sums and differences with a product that nothing else needs into one step, and
    /// what such a step works on as far as there are operations for it; also a constant that
    /// is added only to be subtracted again, which rounds.
    fn combine_products(&mut self, stored: &dyn Fn(ValueId) -> bool, uses: &mut [usize]) {
        for place in 0..self.members.len() {
            if uses[place] == 0 && !stored(self.members[place].value) {
                continue;
            }
            let MemberKind::Operation { op, from, operands } = &self.members[place].kind else {
                continue;
            };
            let (TileOp::Element(Element::Binary(kind)), from @ (DType::F32 | DType::F64)) =
                (*op, *from)
            else {
                continue;
            };
            if !matches!(kind, Binary::Add | Binary::Subtract) {
                continue;
            }
            let terms = [operands[0], operands[1]];
            let mut absorb =
                |group: &Self, source: Source, op| group.absorb(&source, op, stored, &mut *uses);
            let combined = match self.combined_rounding(kind, terms, &mut absorb) {
                None => self.combined_product(kind, terms, &mut absorb),
                rounding => rounding,
            };
            if let Some((op, operands)) = combined {
                self.members[place].kind = MemberKind::Operation { op, from, operands };
            }
        }
    }

    /// A constant subtracted from a sum with the same constant.
    fn combined_rounding(
        &self,
        kind: Binary,
        [left, right]: [Source; 2],
        absorb: &mut Absorb<'_>,
    ) -> Option<(TileOp, Vec<Source>)> {
        let (Binary::Subtract, Source::Literal(constant)) = (kind, &right) else {
            return None;
        };
        let is_constant =
            |source: &Source| matches!(source, Source::Literal(other) if other == constant);
        let x = match self.operands_of(&left, ADD)? {
            [x, other] | [other, x] if is_constant(other) => *x,
            _ => return None,
        };
        absorb(self, left, ADD)?;
        if let Some([_, b, _, d]) = self.operands_of(&x, TileOp::SumOfProducts)
            && self.is_scalar(b)
            && self.is_scalar(d)
            && let Some(mut operands) = absorb(self, x, TileOp::SumOfProducts)
        {
            operands.push(right);
            return Some((TileOp::RoundedSumOfProducts, operands));
        }
        Some((TileOp::AddSubtract, vec![x, right]))
    }

    /// A sum or a difference with a product.
    fn combined_product(
        &self,
        kind: Binary,
        [left, right]: [Source; 2],
        absorb: &mut Absorb<'_>,
    ) -> Option<(TileOp, Vec<Source>)> {
        let (op, factors, rest) = if let Some(factors) = absorb(self, left, MULTIPLY) {
            let op = match kind {
                Binary::Add => TileOp::MultiplyAdd,
                _ => TileOp::MultiplySubtract,
            };
            (op, factors, right)
        } else {
            let op = match kind {
                Binary::Add => TileOp::MultiplyAdd,
                _ => TileOp::SubtractProduct,
            };
            (op, absorb(self, right, MULTIPLY)?, left)
        };
        let [a, b] = self.scalar_last(&factors);
        let combined = if op == TileOp::SubtractProduct
            && let Some(quotient) = absorb(self, a, DIVIDE)
        {
            let operands = vec![quotient[0], b, rest, quotient[1]];
            (TileOp::SubtractQuotientProduct, operands)
        } else if op == TileOp::MultiplyAdd
            && let Some(radicand) = absorb(self, a, ROOT)
        {
            (TileOp::MultiplyRootAdd, vec![radicand[0], b, rest])
        } else if op == TileOp::MultiplyAdd
            && let Some(others) = absorb(self, rest, MULTIPLY)
        {
            let [c, d] = self.scalar_last(&others);
            if let Some(root) = absorb(self, c, SQUARE) {
                (TileOp::SumWithSquare, vec![a, b, root[0], d])
            } else if let Some(root) = absorb(self, a, SQUARE) {
                (TileOp::SumWithSquare, vec![c, d, root[0], b])
            } else {
                (TileOp::SumOfProducts, vec![a, b, c, d])
            }
        } else {
            (op, vec![a, b, rest])
        };
        Some(combined)
    }

    /// The operands of the member that the source is, if it is that operation.
    fn operands_of(&self, source: &Source, wanted: TileOp) -> Option<&[Source]> {
        match &self.members[self.member_of(source)?].kind {
            MemberKind::Operation { op, operands, .. } if *op == wanted => Some(operands),
            _ => None,
        }
    }

    /// The operands of the member that the source is, if it is that operation and needed only
    /// once; its only user takes it over.
    fn absorb(
        &self,
        source: &Source,
        wanted: TileOp,
        stored: &dyn Fn(ValueId) -> bool,
        uses: &mut [usize],
    ) -> Option<Vec<Source>> {
        let operands = self.operands_of(source, wanted)?;
        let place = self.member_of(source)?;
        if uses[place] != 1 || stored(self.members[place].value) {
            return None;
        }
        uses[place] = 0;
        Some(operands.to_vec())
    }

    /// Whether every element of the source is the same.
    fn is_scalar(&self, source: &Source) -> bool {
        match source {
            Source::Literal(_) => true,
            Source::View(view) => view.is_scalar(&self.shape),
        }
    }

    /// Two factors; if one of them is the same everywhere, it is the second.
    fn scalar_last(&self, factors: &[Source]) -> [Source; 2] {
        if self.is_scalar(&factors[0]) {
            [factors[1], factors[0]]
        } else {
            [factors[0], factors[1]]
        }
    }
}

/// Takes over what a source is, if it is that operation and nothing else needs it.
type Absorb<'a> = dyn FnMut(&Group, Source, TileOp) -> Option<Vec<Source>> + 'a;

const ADD: TileOp = TileOp::Element(Element::Binary(Binary::Add));
const MULTIPLY: TileOp = TileOp::Element(Element::Binary(Binary::Multiply));
const DIVIDE: TileOp = TileOp::Element(Element::Binary(Binary::Divide));
const ROOT: TileOp = TileOp::Element(Element::Unary(Unary::Sqrt));
const SQUARE: TileOp = TileOp::Element(Element::Unary(Unary::Square));

/// The operands of an operation that has one.
fn alone(operand: Operand) -> [Operand; MOST_OPERANDS] {
    let mut operands = [Operand::None; MOST_OPERANDS];
    operands[0] = operand;
    operands
}

/// A kernel under construction. Slots are numbered as they are written, each once, until
/// `finish` lets them share.
#[derive(Default)]
struct Builder {
    loads: Vec<Load>,
    /// Per load with strides, the slot it was gathered into.
    gathered: Vec<Option<usize>>,
    scalars: Vec<Scalar>,
    code: Vec<Instruction>,
    /// Operands of half types, and the slots with their widened elements.
    wide: Vec<(Operand, usize)>,
    /// Each member's slot.
    results: Vec<Store>,
    stores: Vec<Store>,
    slots: usize,
}

impl Builder {
    fn push(&mut self, member: &Member, shape: &Dims) {
        let slot = match &member.kind {
            MemberKind::Iota { inner, size } => {
                let slot = self.new_slot();
                self.code.push(Instruction::Iota {
                    dtype: member.dtype,
                    inner: *inner,
                    size: *size,
                    slot,
                });
                slot
            }
            MemberKind::Random { key, stream } => {
                let scalar = Dims::default();
                let key = [0, 1].map(|word| self.operand(&key[word], DType::U32, &scalar));
                let slot = self.new_slot();
                self.code.push(Instruction::Random {
                    key,
                    stream: *stream,
                    slot,
                });
                slot
            }
            MemberKind::Operation { op, from, operands } => {
                let mut found = [Operand::None; MOST_OPERANDS];
                for (place, source) in operands.iter().enumerate() {
                    let is_condition = *op == TileOp::Element(Element::Select) && place == 0;
                    let dtype = if is_condition { DType::Bool } else { *from };
                    found[place] = self.operand(source, dtype, shape);
                }
                self.apply(*op, [*from, member.dtype], found)
            }
        };
        self.results.push(Store {
            value: member.value,
            dtype: member.dtype,
            from: slot,
        });
    }

    /// Appends an operation; one that computes on half types works on widened operands,
    /// and its result is rounded.
    fn apply(
        &mut self,
        op: TileOp,
        [from, to]: [DType; 2],
        operands: [Operand; MOST_OPERANDS],
    ) -> usize {
        if !op.computes() || from == from.wide() {
            return self.apply_as_it_is(op, [from, to], operands);
        }
        let operands = operands.map(|operand| self.widened(operand, from));
        let wide = self.apply_as_it_is(op, [from.wide(), to.wide()], operands);
        if to == to.wide() {
            return wide;
        }
        let convert = TileOp::Element(Element::Convert);
        self.apply_as_it_is(convert, [to.wide(), to], alone(Operand::Slot(wide)))
    }

    fn apply_as_it_is(
        &mut self,
        op: TileOp,
        [from, to]: [DType; 2],
        operands: [Operand; MOST_OPERANDS],
    ) -> usize {
        let slot = self.new_slot();
        self.code.push(Instruction::Apply {
            op,
            from,
            to,
            operands,
            slot,
        });
        slot
    }

    /// The operand in the type that is computed in; each is widened once.
    fn widened(&mut self, operand: Operand, from: DType) -> Operand {
        if operand == Operand::None {
            return operand;
        }
        if let Some((_, slot)) = self.wide.iter().find(|(known, _)| *known == operand) {
            return Operand::Slot(*slot);
        }
        let convert = TileOp::Element(Element::Convert);
        let slot = self.apply_as_it_is(convert, [from, from.wide()], alone(operand));
        self.wide.push((operand, slot));
        Operand::Slot(slot)
    }

    fn new_slot(&mut self) -> usize {
        self.slots += 1;
        self.slots - 1
    }

    fn operand(&mut self, source: &Source, dtype: DType, shape: &Dims) -> Operand {
        let view = match source {
            Source::Literal(literal) => {
                return self.scalar(ScalarSource::Literal(*literal));
            }
            Source::View(view) => view,
        };
        if let Some(result) = self
            .results
            .iter()
            .find(|result| result.value == view.value)
        {
            return Operand::Slot(result.from);
        }
        if view.is_scalar(shape) {
            return self.scalar(ScalarSource::Value {
                value: view.value,
                dtype,
                place: view.offset,
            });
        }
        self.load(view, dtype, shape)
    }

    fn scalar(&mut self, source: ScalarSource) -> Operand {
        if let Some(scalar) = self.scalars.iter().find(|scalar| scalar.source == source) {
            return Operand::Scalar(scalar.slot);
        }
        let slot = self.new_slot();
        self.scalars.push(Scalar { slot, source });
        Operand::Scalar(slot)
    }

    fn load(&mut self, view: &View, dtype: DType, shape: &Dims) -> Operand {
        let strides = (!view.is_whole(shape)).then_some(view.strides);
        let known = self.loads.iter().position(|load| {
            load.value == view.value && load.offset == view.offset && load.strides == strides
        });
        let load = known.unwrap_or_else(|| {
            self.loads.push(Load {
                value: view.value,
                dtype,
                offset: view.offset,
                strides,
            });
            self.gathered.push(None);
            self.loads.len() - 1
        });
        if strides.is_none() {
            return Operand::Load(load);
        }
        let slot = self.gathered[load].unwrap_or_else(|| {
            let slot = self.new_slot();
            self.code.push(Instruction::Gather { load, slot });
            self.gathered[load] = Some(slot);
            slot
        });
        Operand::Slot(slot)
    }

    fn finish(mut self, shape: &Dims) -> Fused {
        let extent = self.merge_dimensions(shape);
        let moments = (0..self.code.len()).find_map(|place| self.moments_until(place));
        if let Some((step, parts)) = &moments {
            let mut place = 0..;
            self.code
                .retain(|_| !place.next().is_some_and(|place| parts.contains(&place)));
            let is_other = |store: &Store| !step.results.contains(&store.value);
            self.stores.retain(is_other);
        }
        let mut moments = moments.map(|(step, _)| step);
        let slots = self.share_slots(&mut moments);
        Fused {
            elements: shape.product(),
            extent,
            loads: self.loads,
            scalars: self.scalars,
            code: self.code,
            moments: moments.map(Box::new),
            stores: self.stores,
            slots,
        }
    }

    /// Merges neighbouring dimensions that every strided load walks as one; rewrites the
    /// strides and returns the merged shape.
    fn merge_dimensions(&mut self, shape: &Dims) -> Dims {
        let strided: Vec<Dims> = self.loads.iter().filter_map(|load| load.strides).collect();
        let mut extent: Vec<usize> = Vec::new();
        // For each merged dimension, the original one whose stride is the smallest.
        let mut last: Vec<usize> = Vec::new();
        for axis in (0..shape.len()).filter(|&axis| shape[axis] > 1) {
            let continues = last.last().is_some_and(|&previous| {
                strided
                    .iter()
                    .all(|strides| strides[previous] == strides[axis].wrapping_mul(shape[axis]))
            });
            if let (true, Some(size), Some(place)) = (continues, extent.last_mut(), last.last_mut())
            {
                *size *= shape[axis];
                *place = axis;
            } else {
                extent.push(shape[axis]);
                last.push(axis);
            }
        }
        for load in &mut self.loads {
            load.strides = load
                .strides
                .map(|strides| Dims::collect(last.iter().map(|&axis| strides[axis])));
        }
        Dims::collect(extent)
    }

    /// The step by moments whose last instruction this is, and the places of its instructions:
    /// when nothing else needs what they compute, but to store the step's results.
    fn moments_until(&self, place: usize) -> Option<(MomentStep, [usize; 4])> {
        let (by_quotient, dtype) = self.applied(place, TileOp::SubtractQuotientProduct)?;
        let [new_average, i, parameter, divisor, _] = by_quotient;
        let root = self.writer(divisor)?;
        let ([new_squares, g, h, ..], _) = self.applied(root, TileOp::MultiplyRootAdd)?;
        let by_squares = self.writer(new_squares)?;
        let ([squares, d, x, f, _], _) = self.applied(by_squares, TileOp::SumWithSquare)?;
        let by_average = self.writer(new_average)?;
        let rounded = TileOp::RoundedSumOfProducts;
        let ([average, b, gradient, c, e], _) = self.applied(by_average, rounded)?;
        let factors = [b, c, e, d, f, g, h, i];
        let parts = [by_average, by_squares, root, place];
        let needs = |operand: Operand| {
            let is_other = |place: &usize| !parts.contains(place);
            let mut others = (0..self.code.len()).filter(is_other);
            others.any(|place| self.reads(place, operand))
        };
        let stored = |place: usize| {
            let mut stores = self
                .stores
                .iter()
                .filter(|store| self.slot(place) == store.from);
            Some(stores.next()?.value).filter(|_| stores.next().is_none())
        };
        let is_scalar = |factor: &Operand| matches!(factor, Operand::Scalar(_));
        let is_made_before = |operand: &Operand| {
            let mut parts = parts.iter();
            parts.all(|&part| Operand::Slot(self.slot(part)) != *operand)
        };
        let fits = x == gradient
            && [gradient, average, squares, parameter]
                .iter()
                .all(is_made_before)
            && factors.iter().all(is_scalar)
            && stored(root).is_none()
            && !parts
                .iter()
                .any(|&part| needs(Operand::Slot(self.slot(part))));
        let step = MomentStep {
            dtype,
            operands: Moments {
                gradient,
                average,
                squares,
                parameter,
            },
            factors,
            results: [stored(by_average)?, stored(by_squares)?, stored(place)?],
        };
        fits.then_some((step, parts))
    }

    /// The operands and their type, if that is the operation of the instruction.
    fn applied(&self, place: usize, wanted: TileOp) -> Option<([Operand; MOST_OPERANDS], DType)> {
        match self.code[place] {
            Instruction::Apply {
                op, from, operands, ..
            } if op == wanted => Some((operands, from)),
            _ => None,
        }
    }

    /// The slot that an instruction writes.
    fn slot(&self, place: usize) -> usize {
        match self.code[place] {
            Instruction::Apply { slot, .. }
            | Instruction::Random { slot, .. }
            | Instruction::Gather { slot, .. }
            | Instruction::Iota { slot, .. } => slot,
        }
    }

    /// The instruction that computes an operand.
    fn writer(&self, operand: Operand) -> Option<usize> {
        (0..self.code.len()).find(|&place| Operand::Slot(self.slot(place)) == operand)
    }

    /// Whether an instruction reads an operand.
    fn reads(&self, place: usize, operand: Operand) -> bool {
        match &self.code[place] {
            Instruction::Apply { operands, .. } => operands.contains(&operand),
            Instruction::Random { key, .. } => key.contains(&operand),
            Instruction::Gather { .. } | Instruction::Iota { .. } => false,
        }
    }

    /// Lets slots be used again once their last reader has run; returns how many are left.
    fn share_slots(&mut self, moments: &mut Option<MomentStep>) -> usize {
        const FOREVER: usize = usize::MAX;
        let mut last_use = vec![0; self.slots];
        for (time, instruction) in self.code.iter().enumerate() {
            if let Instruction::Apply { operands, .. } = instruction {
                for operand in operands {
                    if let Operand::Slot(slot) = operand {
                        last_use[*slot] = time;
                    }
                }
            }
        }
        for store in &self.stores {
            last_use[store.from] = FOREVER;
        }
        for operand in moments.iter().flat_map(|step| step.operands.all()) {
            if let Operand::Slot(slot) = operand {
                last_use[slot] = FOREVER;
            }
        }
        let mut shared = vec![0; self.slots];
        let mut count = 0;
        for scalar in &mut self.scalars {
            shared[scalar.slot] = count;
            scalar.slot = count;
            count += 1;
        }
        let mut free = Vec::new();
        for (time, instruction) in self.code.iter_mut().enumerate() {
            let (operands, slot) = match instruction {
                Instruction::Apply { operands, slot, .. } => (&mut operands[..], slot),
                Instruction::Random { key, slot, .. } => (&mut key[..], slot),
                Instruction::Gather { slot, .. } | Instruction::Iota { slot, .. } => {
                    (&mut [][..], slot)
                }
            };
            // The result never shares with an operand: one is read while it is written.
            shared[*slot] = free.pop().unwrap_or_else(|| {
                count += 1;
                count - 1
            });
            *slot = shared[*slot];
            let mut ended: [Option<usize>; MOST_OPERANDS] = [None; MOST_OPERANDS];
            for (operand, ended) in operands.iter_mut().zip(&mut ended) {
                if let Operand::Scalar(slot) = operand {
                    *slot = shared[*slot];
                }
                if let Operand::Slot(slot) = operand {
                    if last_use[*slot] == time {
                        *ended = Some(shared[*slot]);
                    }
                    *slot = shared[*slot];
                }
            }
            for (place, slot) in ended.iter().enumerate() {
                // One slot may be an operand twice.
                if let Some(slot) = slot.filter(|_| !ended[..place].contains(slot)) {
                    free.push(slot);
                }
            }
        }
        for store in &mut self.stores {
            store.from = shared[store.from];
        }
        for operand in moments.iter_mut().flat_map(MomentStep::slots_mut) {
            *operand = shared[*operand];
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use crate::cpu::{Fused, Kernel};
    use crate::{Attribute, Budget, Program, Value};

    /// A step of Adam, with its divisor as a result too if that is wanted.
    fn adam(wants_divisor: bool) -> Fused {
        let mut program = Program::default();
        let mut source = |op, attribute: (&str, Attribute)| {
            let shape = Attribute::Integers(vec![100]);
            let attributes = [attribute, ("dtype", "f32".into()), ("shape", shape)];
            program.push(op, &[], &attributes)
        };
        let [gradient, average, squares, parameter]: [Value; 4] =
            [0, 1, 2, 3].map(|index: i64| source("input", ("index", index.into())));
        let [b, c, d, f, g, h, i]: [Value; 7] = [0.9, 0.1, 0.999, 0.001, 1.7, 1e-8, 1e-3]
            .map(|value: f64| source("constant", ("value", value.into())));
        let mut op = |name, operands: &[Value]| program.push(name, operands, &[]);
        let sum = [
            op("multiply", &[average, b]),
            op("multiply", &[gradient, c]),
        ];
        let sum = op("add", &sum);
        let sum = op("add", &[sum, i]);
        let average = op("subtract", &[sum, i]);
        let square = op("square", &[gradient]);
        let sum = [op("multiply", &[squares, d]), op("multiply", &[square, f])];
        let squares = op("add", &sum);
        let root = op("sqrt", &[squares]);
        let root = op("multiply", &[root, g]);
        let divisor = op("add", &[root, h]);
        let direction = op("divide", &[average, divisor]);
        let change = op("multiply", &[i, direction]);
        let parameter = op("subtract", &[parameter, change]);
        program.outputs.extend([average, squares, parameter]);
        if wants_divisor {
            program.outputs.push(divisor);
        }
        let compiled = crate::plan::compile(&program, &Budget::new(1 << 30));
        let mut kernels = compiled.expect("the program is right").kernels;
        match (kernels.pop(), kernels.pop()) {
            (Some(Kernel::Fused(fused)), None) => fused,
            other => panic!("one kernel is expected, not {other:?}"),
        }
    }

    #[test]
    fn a_step_of_adam_is_one_pass() {
        let fused = adam(false);
        assert!(fused.moments.is_some());
        assert!(fused.code.is_empty() && fused.stores.is_empty());
    }

    #[test]
    fn what_is_needed_of_a_step_besides_its_results_is_computed_apart() {
        let fused = adam(true);
        assert!(fused.moments.is_none());
        assert_eq!(fused.stores.len(), 4);
    }
}
