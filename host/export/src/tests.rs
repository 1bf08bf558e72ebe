use std::collections::BTreeSet;

use bytes::Bytes;
use expect_test::expect;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

use super::*;

fn columns() -> Vec<Column> {
    let columns = [
        ("id", Kind::Text),
        ("tags", Kind::Texts),
        ("started", Kind::Time),
        ("last_iteration", Kind::Integer),
        ("params.General/x", Kind::Typed),
        ("metrics.val/acc", Kind::Real),
    ];
    let column = |(name, kind): (&str, Kind)| Column {
        name: name.to_owned(),
        kind,
    };
    columns.map(column).to_vec()
}

fn rows() -> Vec<Vec<Cell>> {
    let typed = |text: &str, number| Cell::Typed {
        text: text.to_owned(),
        number,
    };
    vec![
        vec![
            Cell::Text("=1+2, \"a\"\nb".into()),
            Cell::Texts(BTreeSet::from(["a".into(), "ä b".into()])),
            Cell::Integer(951_827_696_789),
            Cell::Integer(-3),
            typed("-0.5", Some(-0.5)),
            Cell::Real(0.1),
        ],
        vec![
            Cell::Text(String::new()),
            Cell::Missing,
            Cell::Missing,
            Cell::Missing,
            typed("-x", None),
            Cell::Real(f64::NEG_INFINITY),
        ],
        vec![Cell::Missing; 6],
    ]
}

fn written(format: Format) -> Vec<u8> {
    let mut writer = Writer::new(format, columns()).unwrap();
    let mut bytes = Vec::new();
    for row in rows() {
        bytes.extend(writer.write(&[row]).unwrap());
    }
    bytes.extend(writer.finish().unwrap());
    bytes
}

#[test]
fn csv_is_safe_to_open_in_a_spreadsheet() {
    expect![[r#"
        id,tags,started,last_iteration,params.General/x,metrics.val/acc
        "'=1+2, ""a""
        b","[""a"",""ä b""]",2000-02-29T12:34:56.789Z,-3,-0.5,0.1
        ,,,,'-x,-Infinity
        ,,,,,
    "#]]
    .assert_eq(&String::from_utf8(written(Format::Csv)).unwrap());
    let content = written(Format::Csv);
    let mut reader = csv::Reader::from_reader(content.as_slice());
    let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), 3);
    assert_eq!(&records[0][0], "'=1+2, \"a\"\nb");
    assert_eq!(records[0][5].parse::<f64>().unwrap(), 0.1);
}

#[test]
fn json_lines_keep_numbers_and_lists() {
    expect![[r#"
        {"id":"=1+2, \"a\"\nb","last_iteration":-3,"metrics.val/acc":0.1,"params.General/x":-0.5,"started":951827696789,"tags":["a","ä b"]}
        {"id":"","last_iteration":null,"metrics.val/acc":"-Infinity","params.General/x":"-x","started":null,"tags":null}
        {"id":null,"last_iteration":null,"metrics.val/acc":null,"params.General/x":null,"started":null,"tags":null}
    "#]]
    .assert_eq(&String::from_utf8(written(Format::JsonLines)).unwrap());
}

#[test]
fn parquet_is_read_back_as_it_was() {
    let reader = SerializedFileReader::new(Bytes::from(written(Format::Parquet))).unwrap();
    assert_eq!(reader.metadata().file_metadata().num_rows(), 3);
    let rows: Vec<Vec<Field>> = reader
        .get_row_iter(None)
        .unwrap()
        .map(|row| {
            row.unwrap()
                .into_columns()
                .into_iter()
                .map(|(_, field)| field)
                .collect()
        })
        .collect();
    assert_eq!(
        rows[0],
        [
            Field::Str("=1+2, \"a\"\nb".into()),
            Field::Str("[\"a\",\"ä b\"]".into()),
            Field::TimestampMillis(951_827_696_789),
            Field::Long(-3),
            Field::Str("-0.5".into()),
            Field::Double(0.1),
        ]
    );
    assert_eq!(rows[1][0], Field::Str(String::new()));
    assert_eq!(rows[1][5], Field::Double(f64::NEG_INFINITY));
    assert_eq!(rows[2], vec![Field::Null; 6]);
    let columns = reader.metadata().file_metadata().schema_descr();
    assert_eq!(columns.column(4).name(), "params.General/x");
}

#[test]
fn a_long_export_is_several_groups_and_an_empty_one_is_a_file_too() {
    let mut writer = Writer::new(Format::Parquet, columns()).unwrap();
    let (mut bytes, mut early) = (Vec::new(), 0);
    for page in 0..25 {
        let mut rows = vec![rows().remove(0); 1000];
        for (index, row) in rows.iter_mut().enumerate() {
            row[0] = Cell::Text(format!("task {page} {index}"));
        }
        bytes.extend(writer.write(&rows).unwrap());
        early = early.max(bytes.len());
    }
    assert!(early > 1000, "what is full is handed out at once");
    bytes.extend(writer.finish().unwrap());
    let reader = SerializedFileReader::new(Bytes::from(bytes)).unwrap();
    assert_eq!(reader.num_row_groups(), 3);
    assert_eq!(reader.metadata().file_metadata().num_rows(), 25_000);

    for format in Format::ALL {
        let empty = Writer::new(format, columns()).unwrap().finish().unwrap();
        assert_eq!(empty.is_empty(), format == Format::JsonLines, "{format:?}");
    }
}
