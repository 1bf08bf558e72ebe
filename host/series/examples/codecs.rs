//! Prints how many bytes a point takes and how fast points are encoded and decoded:
//! `cargo run --release -p trainshed-series --example codecs`.
#![expect(clippy::print_stdout, reason = "that is what it is for")]
#![expect(clippy::unwrap_used, reason = "nothing here comes from outside")]

use std::hint::black_box;
use std::time::Instant;

use trainshed_series::{
    Frame, FrameBuilder, Points, Sampling, buckets_of, chunk, decode_buckets, encode_buckets,
    parse_batch, sample_buckets, sample_points,
};

const POINTS: u32 = 1 << 20;

/// Values with all digits, as a noisy loss has them, rounded to 32 bits if `single`.
fn curve(single: bool) -> Points {
    let mut state = 1_u64;
    let mut points = Points::default();
    let mut time = 1_700_000_000_000;
    for step in 0..POINTS {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let noise = f64::from(u32::try_from(state >> 32).unwrap()) / f64::from(u32::MAX);
        time += 48 + i64::try_from(state >> 62).unwrap();
        let value = 2.0 / (1.0 + f64::from(step) / 5000.0) + noise / 10.0;
        #[expect(clippy::cast_possible_truncation, reason = "asked for")]
        let value = if single {
            f64::from(value as f32)
        } else {
            value
        };
        points.push(u64::from(step), time, value);
    }
    points
}

fn measure<T>(what: &str, points: u32, mut work: impl FnMut() -> T) -> T {
    let mut best = f64::INFINITY;
    let mut result = None;
    for _ in 0..5 {
        let start = Instant::now();
        result = Some(black_box(work()));
        best = best.min(start.elapsed().as_secs_f64());
    }
    let speed = f64::from(points) / best / 1e6;
    println!("  {what:<34} {speed:>8.1} Mpts/s {:>9.3} ms", best * 1e3);
    result.unwrap()
}

fn main() {
    for (name, single) in [("64-bit values", false), ("values of 32 bits", true)] {
        println!("{name}, {POINTS} points of one curve");
        let points = curve(single);
        let view = points.view();
        let per_point = |bytes: usize| bytes as f64 / f64::from(POINTS);

        let thousands: Vec<Frame<'_>> = (0..points.len())
            .step_by(1000)
            .map(|start| {
                let part = points.range(start..points.len().min(start + 1000));
                let mut builder = FrameBuilder::default();
                let names = ("train".into(), "loss".into());
                builder.push_columns(names, part.steps(), part.times(), part.values());
                builder.finish()
            })
            .collect();
        let frames = measure("frames of 1000: encode", POINTS, || {
            thousands.iter().map(Frame::encode).collect::<Vec<_>>()
        });
        measure("frames of 1000: decode", POINTS, || {
            let frames = frames.iter().map(|frame| Frame::decode(frame).unwrap());
            frames.map(|frame| frame.point_count()).sum::<usize>()
        });
        println!(
            "  frames: {:.2} bytes a point",
            per_point(frames.iter().map(Vec::len).sum())
        );

        let chunks = measure("chunks of 4096: encode", POINTS, || {
            (0..points.len())
                .step_by(chunk::CHUNK_POINTS)
                .map(|start| chunk::encode(points.range(start..start + chunk::CHUNK_POINTS)))
                .collect::<Vec<_>>()
        });
        measure("chunks of 4096: decode", POINTS, || {
            let decoded = chunks.iter().map(|chunk| chunk::decode(chunk).unwrap());
            decoded.map(|points| points.len()).sum::<usize>()
        });
        let buckets = measure("buckets of 512: make", POINTS, || {
            let mut buckets = Vec::new();
            buckets_of(view, &mut buckets);
            buckets
        });
        let bytes = encode_buckets(&buckets);
        let chunk_bytes: usize = chunks.iter().map(Vec::len).sum();
        println!(
            "  chunks: {:.2} bytes a point, {:.2} with buckets",
            per_point(chunk_bytes),
            per_point(chunk_bytes + bytes.len() * 8 / 7)
        );
        measure("chart of 1000 from buckets", POINTS, || {
            sample_buckets(&decode_buckets(&bytes).unwrap(), 1000)
        });
        measure("chart of 1000, largest triangles", POINTS, || {
            sample_points(view, 1000, Sampling::Lttb)
        });
    }

    println!("JSON bodies of 1000 points of 10 curves");
    let rows: Vec<String> = (0..1000_u32)
        .map(|row| {
            let (series, value) = (row % 10, f64::from(row.wrapping_mul(2_654_435_761)) / 4e9);
            format!(r#"{{"title":"train","series":"m{series}","iteration":{row},"value":{value},"at":1700000000{row:03}}}"#)
        })
        .collect();
    let body = format!("{{\"points\":[{}]}}", rows.join(","));
    let batch = measure("read", 1000, || parse_batch(body.as_bytes(), 0).unwrap());
    measure("encode as a frame", 1000, || batch.frame.encode());
}
