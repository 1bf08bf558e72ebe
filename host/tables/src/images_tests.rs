use std::io::{Cursor, Write};

use expect_test::expect;
use image::{DynamicImage, GrayImage, ImageFormat, Luma, RgbImage};
use trainshed_tensor::DType;

use crate::ImageOptions;
use crate::testing::{Files, check_survey, check_tensor, survive, survive_damage};

fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
    encoded(image, ImageFormat::Png)
}

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn grey(width: u32, height: u32, first: u8) -> GrayImage {
    GrayImage::from_fn(width, height, |x, y| {
        Luma([first + u8::try_from(y * width + x).unwrap()])
    })
}

#[test]
fn a_folder_of_folders_of_images_is_a_table_with_labels() {
    let (cat, dog) = (png(grey(3, 2, 0)), png(grey(3, 2, 100)));
    let files: [(&str, &[u8]); 4] = [
        ("train/dog/1.png", &dog),
        ("train/cat/b.PNG", &cat),
        ("train/cat/a.png", &cat),
        ("top.png", &cat),
    ];
    check_survey(
        &files,
        expect![[r#"
            . 1
                image: Image (u8) [2, 3, 1]
                label: Text (text) []
                file: Text (text) []
            train 3
                image: Image (u8) [2, 3, 1]
                label: Text (text) []
                file: Text (text) []
        "#]],
    );
    let files = Files::new(&files);
    let (reader, tables) = (files.reader(), files.reader().survey().unwrap());
    assert_eq!(
        reader.texts(&tables[1], "file", 0, 9).unwrap(),
        ["cat/a.png", "cat/b.PNG", "dog/1.png"]
    );
    let classes = reader.load_classes(&tables[1], "label", None).unwrap();
    assert_eq!(classes.vocabulary, ["cat", "dog"]);
    check_tensor(Ok(classes.indices), expect!["[3] [0.0, 0.0, 1.0]"]);
    let loaded = reader.load_images(&tables[1], "image", ImageOptions::default());
    check_tensor(
        loaded,
        expect![
            "[3, 2, 3, 1] [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 100.0, 101.0, 102.0, 103.0, 104.0, 105.0]"
        ],
    );
    check_tensor(
        reader.load(&tables[1], &["image".to_owned()], DType::F32),
        expect![[
            r#"Unreadable("`train`: the column `image` (u8) has images, which are decoded by `load-images`")"#
        ]],
    );
}

#[test]
fn images_that_differ_are_made_alike_or_refused() {
    let small = png(grey(2, 2, 10));
    let large = encoded(RgbImage::new(4, 3), ImageFormat::Jpeg);
    let files = Files::new(&[("i/a/small.png", &small), ("i/b/large.jpg", &large)]);
    let (reader, table) = (files.reader(), files.table());
    assert!(table.columns[0].shape.is_empty());
    check_tensor(
        reader.load_images(&table, "image", ImageOptions::default()),
        expect![[
            r#"Unreadable("`i`: `i/a/small.png` has 2 x 2 pixels and 1 channels, but `i/b/large.jpg` has 3 x 4 pixels and 3 channels: say which size and channels all are to have")"#
        ]],
    );
    let options = ImageOptions {
        size: Some((1, 2)),
        channels: Some(1),
    };
    check_tensor(
        reader.load_images(&table, "image", options),
        expect!["[2, 1, 2, 1] [11.0, 12.0, 0.0, 0.0]"],
    );
    let options = ImageOptions {
        size: Some((0, 2)),
        channels: Some(1),
    };
    check_tensor(
        reader.load_images(&table, "image", options),
        expect![[
            r#"Unreadable("`i`: images can have 1 to 134217728 pixels, but 0 x 2 are wanted")"#
        ]],
    );
}

#[test]
fn headers_that_claim_too_many_pixels_are_refused_before_memory_is_taken() {
    let mut huge = png(grey(1, 1, 0));
    huge[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let crc = crc32(&huge[12..29]).to_be_bytes();
    huge[29..33].copy_from_slice(&crc);
    check_survey(
        &[("a/huge.png", &huge)],
        expect![[r#"
            Unreadable("`a/huge.png`: it has 60000 x 60000 pixels, but an image may have 1 to 134217728")
        "#]],
    );
    huge[16..24].copy_from_slice(&[0, 0, 0x20, 0, 0, 0, 0x20, 0]);
    let crc = crc32(&huge[12..29]).to_be_bytes();
    huge[29..33].copy_from_slice(&crc);
    let files = Files::new(&[("a/huge.png", &huge)]);
    let options = ImageOptions {
        size: Some((1, 1)),
        channels: Some(1),
    };
    check_tensor(
        files.reader().load_images(&files.table(), "image", options),
        expect![[r#"OutOfMemory { needed: 1073741895, allowed: 67108864 }"#]],
    );
}

#[test]
fn what_is_packed_beside_the_pixels_takes_no_more_memory_than_its_limit() {
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..64 {
        packed.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let packed = packed.finish().unwrap();
    let small = png(grey(1, 1, 0));
    // Behind the signature and the 25 bytes of the header.
    let (begin, end) = small.split_at(33);
    for (kind, prefix) in [(b"iCCP", &b"p\0\0"[..]), (b"zTXt", b"t\0\0")] {
        let chunk = [&kind[..], prefix, &packed].concat();
        let length = u32::try_from(chunk.len() - 4).unwrap().to_be_bytes();
        let bomb = [begin, &length, &chunk, &crc32(&chunk).to_be_bytes(), end].concat();
        survive("a/x.png", &bomb);
    }
}

/// Source: ISO/IEC 15948, "Portable Network Graphics", annex D.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    })
}

#[test]
fn damaged_images_are_survived() {
    let image = RgbImage::from_fn(9, 7, |x, y| {
        image::Rgb([
            u8::try_from(x * 20).unwrap(),
            u8::try_from(y * 30).unwrap(),
            7,
        ])
    });
    survive_damage("a/x.png", &png(image.clone()));
    survive_damage("a/x.jpg", &encoded(image, ImageFormat::Jpeg));
    survive("a/x.png", b"not an image");
}
