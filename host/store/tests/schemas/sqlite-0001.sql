-- A data folder of schema 1 as trainshed wrote it: two runs of linear-regression, the second from
-- the model of the first.
BEGIN TRANSACTION;
CREATE TABLE _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
INSERT INTO "_sqlx_migrations" VALUES(1,'first','2026-11-21 19:39:40',1,X'CC9BCFD445C74AFC3CC64BE1D916729157A708D8E556FA00866B24D9916295EA37D8F98390051524591375E19B4AF6E7',4447783);
CREATE TABLE agent (
    workspace text not null references workspace (id),
    id text not null,
    name text not null,
    is_local bigint not null,
    last_seen bigint not null,
    primary key (workspace, id)
);
INSERT INTO "agent" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4e54765e9de0de7cb9ceb46f','vm',1,1795289992830);
INSERT INTO "agent" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4eeb744d9862412f55eac844','vm',1,1795289992978);
CREATE TABLE api_key (
    sha256 text not null primary key,
    workspace text not null references workspace (id),
    created bigint not null
);
INSERT INTO "api_key" VALUES('d6f4c7b6d585bc09a5499fff510f7ed2e290e53abdd7a3b60156ce68418fed8e','01a1ff9f1d087306ad3dc2656128876a',1795289980168);
CREATE TABLE artifact (
    workspace text not null,
    task text not null,
    name text not null,
    sha256 text not null,
    size_bytes bigint not null,
    content_type text not null,
    created bigint not null,
    primary key (workspace, task, name),
    foreign key (workspace, task) references task (workspace, id),
    foreign key (workspace, sha256) references file (workspace, sha256)
);
CREATE TABLE console (
    workspace text not null,
    task text not null,
    first_line bigint not null,
    line_count bigint not null,
    lines text not null,
    primary key (workspace, task, first_line),
    foreign key (workspace, task) references task (workspace, id)
);
INSERT INTO "console" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4e5272feab28a03c7163a31f',0,1,'[{"at":1795289992816,"source":"stdout","text":"60 rows, 2 features of `target`"}]');
INSERT INTO "console" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4e5272feab28a03c7163a31f',1,1,'[{"at":1795289992823,"source":"stdout","text":"validation MSE 0.2762, MAE 0.4144, R² 0.0946"}]');
INSERT INTO "console" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4eec755c92a28c8a2527eabb',0,1,'[{"at":1795289992962,"source":"stdout","text":"60 rows, 2 features of `target`"}]');
INSERT INTO "console" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4eec755c92a28c8a2527eabb',1,1,'[{"at":1795289992974,"source":"stdout","text":"validation MSE 0.1566, MAE 0.3128, R² 0.4867"}]');
CREATE TABLE dataset (
    id integer primary key autoincrement,
    workspace text not null references workspace (id),
    uuid text not null,
    name text not null,
    number bigint not null,
    parent bigint,
    task text,
    digest text not null,
    description text not null,
    file_count bigint not null,
    size_bytes bigint not null,
    state text not null,
    created bigint not null,
    unique (workspace, name, number),
    unique (workspace, task)
);
INSERT INTO "dataset" VALUES(1,'01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4e3776f99a5069799a8ebe3e','line',1,NULL,NULL,'37fea7d71942660d43a2763cbe7404b7e76f97b3c700e09a6fad030bb2c5512f','',1,1094,'visible',1795289992759);
CREATE TABLE dataset_file (
    workspace text not null,
    dataset bigint not null references dataset (id) on delete cascade,
    path text not null,
    sha256 text not null,
    size_bytes bigint not null,
    primary key (workspace, dataset, path),
    foreign key (workspace, sha256) references file (workspace, sha256)
);
INSERT INTO "dataset_file" VALUES('01a1ff9f1d087306ad3dc2656128876a',1,'train.csv','f38fa38b051daf1a84bfd5a0428b51ec0c74032be0a9cc09326854d60dda6aa3',1094);
CREATE TABLE file (
    workspace text not null references workspace (id),
    sha256 text not null,
    size_bytes bigint not null,
    created bigint not null,
    primary key (workspace, sha256)
);
INSERT INTO "file" VALUES('01a1ff9f1d087306ad3dc2656128876a','ebb60f29ceed29720c5e14fa2417ec902be19a04f63ed38f937bf81ccf9aef55',623641,1795289980177);
INSERT INTO "file" VALUES('01a1ff9f1d087306ad3dc2656128876a','f38fa38b051daf1a84bfd5a0428b51ec0c74032be0a9cc09326854d60dda6aa3',1094,1795289992752);
INSERT INTO "file" VALUES('01a1ff9f1d087306ad3dc2656128876a','ed1ad5344326185fd0d5b9d827075b6dbd386bc73048e92a6ba5f4b6a2928efe',572,1795289992819);
INSERT INTO "file" VALUES('01a1ff9f1d087306ad3dc2656128876a','9c170661c6b2b4249aa32d346f78a1cc62ce4358c2b6256ad061cb297149ed6d',572,1795289992967);
CREATE TABLE ingest (
    seq integer primary key autoincrement,
    workspace text not null,
    task text not null,
    fence bigint not null,
    batch_key bigint not null,
    at bigint not null,
    point_count bigint not null,
    frame blob not null,
    unique (workspace, task, fence, batch_key),
    foreign key (workspace, task) references task (workspace, id)
);
INSERT INTO "ingest" VALUES(1,'01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4e5272feab28a03c7163a31f',1,0,1795289992816,0,X'545346310000000000000000000000003EB67314');
INSERT INTO "ingest" VALUES(2,'01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4e5272feab28a03c7163a31f',1,1,1795289992817,0,X'545346310000000000000000000000003EB67314');
INSERT INTO "ingest" VALUES(3,'01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4e5272feab28a03c7163a31f',1,2,1795289992819,12,X'545346310C000000040000000500747261696E03006D73650A0076616C69646174696F6E03006D73650A0076616C69646174696F6E03006D61650A0076616C69646174696F6E02007232000000000100000002000000030000000000000001000000020000000300000000000000010000000200000003000000010000000000000001000000000000000100000000000000010000000000000002000000000000000200000000000000020000000000000002000000000000000300000000000000030000000000000003000000000000000300000000000000714E9FFFA1010000724E9FFFA1010000724E9FFFA1010000724E9FFFA1010000724E9FFFA1010000724E9FFFA1010000724E9FFFA1010000724E9FFFA1010000724E9FFFA1010000724E9FFFA1010000724E9FFFA1010000724E9FFFA1010000000000E05FE0D93F84BBD2286674D53F23AED3A6D045DD3F4077E67D2545B9BF0000000083C5D83F035986F813D2D33F107DC77E2719DC3F800EA2F5C8C78EBF00000020E87BD73FD9269C18FCADD13F072BB847E284DA3F28E064508238B83F0C000000000000000B0000007B2265706F6368223A317D010000000B0000007B2265706F6368223A317D020000000B0000007B2265706F6368223A317D030000000B0000007B2265706F6368223A317D040000000B0000007B2265706F6368223A327D050000000B0000007B2265706F6368223A327D060000000B0000007B2265706F6368223A327D070000000B0000007B2265706F6368223A327D080000000B0000007B2265706F6368223A337D090000000B0000007B2265706F6368223A337D0A0000000B0000007B2265706F6368223A337D0B0000000B0000007B2265706F6368223A337D4CB722C1');
INSERT INTO "ingest" VALUES(4,'01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4e5272feab28a03c7163a31f',1,3,1795289992823,0,X'545346310000000000000000000000003EB67314');
INSERT INTO "ingest" VALUES(5,'01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4eec755c92a28c8a2527eabb',1,0,1795289992966,12,X'545346310C000000040000000500747261696E03006D73650A0076616C69646174696F6E03006D73650A0076616C69646174696F6E03006D61650A0076616C69646174696F6E02007232000000000100000002000000030000000000000001000000020000000300000000000000010000000200000003000000040000000000000004000000000000000400000000000000040000000000000005000000000000000500000000000000050000000000000005000000000000000600000000000000060000000000000006000000000000000600000000000000034F9FFFA1010000034F9FFFA1010000034F9FFFA1010000034F9FFFA1010000034F9FFFA1010000034F9FFFA1010000034F9FFFA1010000034F9FFFA1010000034F9FFFA1010000034F9FFFA1010000034F9FFFA1010000034F9FFFA10100000000002018F9D33F50BDA0DCCD87CE3FF033A1C527A6D83F1C98FA60C6EFCB3F0000006073B3D43F8FBB9E847E30C93F50831771FC68D63F8A514B6B8FB8D63F000000607C5BCB3F2D3D7CEA9A0BC43F4EE90BDA6705D43F3C0ABD259B26DF3F0C000000000000000B0000007B2265706F6368223A347D010000000B0000007B2265706F6368223A347D020000000B0000007B2265706F6368223A347D030000000B0000007B2265706F6368223A347D040000000B0000007B2265706F6368223A357D050000000B0000007B2265706F6368223A357D060000000B0000007B2265706F6368223A357D070000000B0000007B2265706F6368223A357D080000000B0000007B2265706F6368223A367D090000000B0000007B2265706F6368223A367D0A0000000B0000007B2265706F6368223A367D0B0000000B0000007B2265706F6368223A367DE621DB8D');
INSERT INTO "ingest" VALUES(6,'01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4eec755c92a28c8a2527eabb',1,1,1795289992974,0,X'545346310000000000000000000000003EB67314');
CREATE TABLE model (
    id integer primary key autoincrement,
    workspace text not null references workspace (id),
    uuid text not null,
    task text not null,
    name text not null,
    parent bigint,
    iteration bigint not null,
    sha256 text not null,
    size_bytes bigint not null,
    labels text not null,
    metadata text not null,
    state text not null,
    created bigint not null,
    unique (workspace, task, name),
    foreign key (workspace, sha256) references file (workspace, sha256)
);
INSERT INTO "model" VALUES(1,'01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4e7770edbb0e98e5d112d28f','01a1ff9f4e5272feab28a03c7163a31f','model',NULL,3,'ed1ad5344326185fd0d5b9d827075b6dbd386bc73048e92a6ba5f4b6a2928efe',572,'[]','[["target","target"],["features","[\"a\",\"b\"]"],["coefficients","[0.22143049378915128,-0.09755761381019805]"],["intercept","1.0247160133797177"],["split seed","1337"]]','visible',1795289992823);
INSERT INTO "model" VALUES(2,'01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4f0f73249d6a461eb6b95211','01a1ff9f4eec755c92a28c8a2527eabb','model',1,6,'9c170661c6b2b4249aa32d346f78a1cc62ce4358c2b6256ad061cb297149ed6d',572,'[]','[["target","target"],["features","[\"a\",\"b\"]"],["coefficients","[0.6629035967382272,-0.33217192116495703]"],["intercept","0.902617623761396"],["split seed","1337"]]','visible',1795289992974);
CREATE TABLE parameter (
    workspace text not null,
    task text not null,
    section text not null,
    name text not null,
    type text not null,
    value text not null,
    primary key (workspace, task, section, name),
    foreign key (workspace, task) references task (workspace, id)
);
INSERT INTO "parameter" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4e5272feab28a03c7163a31f','General','epochs','integer','3');
INSERT INTO "parameter" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4e5272feab28a03c7163a31f','General','method','text','gradient');
INSERT INTO "parameter" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4e5272feab28a03c7163a31f','Args','checkpoint','null','null');
INSERT INTO "parameter" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4e5272feab28a03c7163a31f','Args','dataset','integer','1');
INSERT INTO "parameter" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4e5272feab28a03c7163a31f','Args','name','text','line fit 1');
INSERT INTO "parameter" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4e5272feab28a03c7163a31f','Args','project','text','first/second');
INSERT INTO "parameter" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4e5272feab28a03c7163a31f','Args','tags','list','["a","b"]');
INSERT INTO "parameter" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4eec755c92a28c8a2527eabb','General','epochs','integer','3');
INSERT INTO "parameter" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4eec755c92a28c8a2527eabb','General','method','text','gradient');
INSERT INTO "parameter" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4eec755c92a28c8a2527eabb','Args','checkpoint','integer','1');
INSERT INTO "parameter" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4eec755c92a28c8a2527eabb','Args','dataset','integer','1');
INSERT INTO "parameter" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4eec755c92a28c8a2527eabb','Args','name','text','line fit 2');
INSERT INTO "parameter" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4eec755c92a28c8a2527eabb','Args','project','text','first/second');
INSERT INTO "parameter" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4eec755c92a28c8a2527eabb','Args','tags','list','["a","b"]');
CREATE TABLE plugin (
    workspace text not null,
    digest text not null,
    name text not null,
    version text not null,
    manifest text not null,
    size_bytes bigint not null,
    created bigint not null,
    primary key (workspace, digest),
    unique (workspace, name, version),
    foreign key (workspace, digest) references file (workspace, sha256)
);
INSERT INTO "plugin" VALUES('01a1ff9f1d087306ad3dc2656128876a','ebb60f29ceed29720c5e14fa2417ec902be19a04f63ed38f937bf81ccf9aef55','linear-regression','0.1.0','{"name":"linear-regression","version":"0.1.0","category":"tabular","summary":"Fits a linear function to a column of a table.","actions":[{"name":"train","summary":"Fits a linear function to a column of a table.","schema":{"$defs":{"Method":{"description":"How the coefficients are found.","oneOf":[{"const":"exact","description":"By the normal equations: exact, for up to 1000 features.","type":"string"},{"const":"gradient","description":"By stochastic gradient descent.","type":"string"}]}},"$schema":"https://json-schema.org/draft/2020-12/schema","description":"What is fitted, and how.","properties":{"batch_size":{"default":32,"description":"How many rows a step of `gradient` learns from.","format":"uint32","maximum":65536,"minimum":1,"type":"integer"},"epochs":{"default":100,"description":"How often `gradient` goes through the training rows; a resumed run adds as many.","format":"uint32","maximum":100000,"minimum":1,"type":"integer"},"features":{"default":null,"description":"The columns to predict from; without them, all other columns of numbers.","items":{"type":"string"},"type":["array","null"]},"learning_rate":{"default":0.01,"description":"How far a step of `gradient` goes.","format":"double","minimum":0.0,"type":"number"},"method":{"$ref":"#/$defs/Method","default":"exact","description":"How the coefficients are found."},"momentum":{"default":0.9,"description":"The share of the last step that `gradient` keeps.","format":"double","maximum":1.0,"minimum":0.0,"type":"number"},"ridge":{"default":0.0,"description":"How strongly coefficients, of standardised columns, are drawn to 0.","format":"double","minimum":0.0,"type":"number"},"table":{"default":null,"description":"The table; without it, the only one.","type":["string","null"]},"target":{"default":null,"description":"The column to predict; without it, the last column of numbers.","type":["string","null"]},"validation_fraction":{"default":0.2,"description":"The share of rows that are held back to judge by.","format":"double","maximum":1.0,"minimum":0.0,"type":"number"}},"title":"Settings","type":"object"}}],"environment":[]}',623641,1795289980807);
CREATE TABLE project (
    workspace text not null references workspace (id),
    id text not null,
    path text not null,
    created bigint not null,
    primary key (workspace, id),
    unique (workspace, path)
);
INSERT INTO "project" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4e5272feab28a03dafeaaeca','first',1795289992786);
INSERT INTO "project" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4e5272feab28a03e391f521a','first/second',1795289992786);
CREATE TABLE sample (
    workspace text not null,
    task text not null,
    category text not null,
    sample_group text not null,
    position bigint not null,
    sha256 text not null,
    size_bytes bigint not null,
    content_type text not null,
    at bigint not null,
    extra text,
    primary key (workspace, task, category, sample_group, position),
    foreign key (workspace, task) references task (workspace, id),
    foreign key (workspace, sha256) references file (workspace, sha256)
);
CREATE TABLE series (
    workspace text not null,
    task text not null,
    title text not null,
    series text not null,
    point_count bigint not null,
    last_value double precision,
    last_iteration bigint not null,
    min_value double precision,
    min_iteration bigint not null,
    max_value double precision,
    max_iteration bigint not null,
    primary key (workspace, task, title, series),
    foreign key (workspace, task) references task (workspace, id)
);
INSERT INTO "series" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4e5272feab28a03c7163a31f','train','mse',3,3.66937667131423950195e-01,3,3.66937667131423950195e-01,3,4.04319733381271362304e-01,1);
INSERT INTO "series" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4e5272feab28a03c7163a31f','validation','mae',3,4.14360590017779306659e-01,3,4.14360590017779306659e-01,3,4.57386172215338671076e-01,1);
INSERT INTO "series" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4e5272feab28a03c7163a31f','validation','mse',3,2.76244186433002136826e-01,3,2.76244186433002136826e-01,3,3.35229434839611650787e-01,1);
INSERT INTO "series" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4e5272feab28a03c7163a31f','validation','r2',3,9.46122595095181262436e-02,3,-9.87113411306070887007e-02,1,9.46122595095181262436e-02,3);
INSERT INTO "series" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4eec755c92a28c8a2527eabb','train','mse',3,2.13729426264762878417e-01,6,2.13729426264762878417e-01,6,3.23452800512313842773e-01,5);
INSERT INTO "series" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4eec755c92a28c8a2527eabb','validation','mae',3,3.12829935966551953008e-01,6,3.12829935966551953008e-01,6,3.85141318319084824395e-01,4);
INSERT INTO "series" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4eec755c92a28c8a2527eabb','validation','mse',3,1.56604160780696416432e-01,6,1.56604160780696416432e-01,6,2.38519413689099568642e-01,4);
INSERT INTO "series" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4eec755c92a28c8a2527eabb','validation','r2',3,4.86731325963919436716e-01,6,2.18254849770517789231e-01,4,4.86731325963919436716e-01,6);
CREATE TABLE single (
    workspace text not null,
    task text not null,
    name text not null,
    value double precision,
    primary key (workspace, task, name),
    foreign key (workspace, task) references task (workspace, id)
);
INSERT INTO "single" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4e5272feab28a03c7163a31f','validation MAE',4.14360590017779306659e-01);
INSERT INTO "single" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4e5272feab28a03c7163a31f','validation MSE',2.76244186433002136826e-01);
INSERT INTO "single" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4e5272feab28a03c7163a31f','validation R2',9.46122595095181262436e-02);
INSERT INTO "single" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4eec755c92a28c8a2527eabb','validation MAE',3.12829935966551953008e-01);
INSERT INTO "single" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4eec755c92a28c8a2527eabb','validation MSE',1.56604160780696416432e-01);
INSERT INTO "single" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4eec755c92a28c8a2527eabb','validation R2',4.86731325963919436716e-01);
CREATE TABLE task (
    workspace text not null references workspace (id),
    id text not null,
    project text not null,
    name text not null,
    encoded_name text not null,
    type text not null,
    state text not null,
    state_reason text not null,
    comment text not null,
    tags text not null,
    action text not null,
    params text not null,
    settings text not null,
    plugin_digest text not null,
    plugin_name text not null,
    plugin_version text not null,
    dataset bigint not null references dataset (id),
    checkpoint bigint references model (id),
    seed text not null,
    limits text not null,
    result text,
    progress text not null,
    output_model text,
    last_iteration bigint not null,
    created bigint not null,
    queued bigint,
    started bigint,
    ended bigint,
    last_update bigint not null,
    stop_requested bigint,
    stop_reason text,
    agent text,
    fence bigint not null,
    ended_fence bigint,
    lease_until bigint,
    attempts bigint not null,
    primary key (workspace, id),
    foreign key (workspace, project) references project (workspace, id)
);
INSERT INTO "task" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4e5272feab28a03c7163a31f','01a1ff9f4e5272feab28a03e391f521a','line fit 1','line fit 1','training','completed','','','["a","b"]','train','{"checkpoint":null,"dataset":1,"hyperparameter":{"epochs":3,"method":"gradient"},"name":"line fit 1","project":"first/second","tags":["a","b"]}','{"epochs":3,"method":"gradient"}','ebb60f29ceed29720c5e14fa2417ec902be19a04f63ed38f937bf81ccf9aef55','linear-regression','0.1.0',1,NULL,'1337','{}','{"coefficients":{"a":0.22143049378915128,"b":-0.09755761381019805},"intercept":1.0247160133797177,"mae":0.4143605900177793,"model_id":1,"mse":0.27624418643300214,"r2":0.09461225950951813}','{"dataset":100.0,"model_upload":100.0,"train":100.0}',NULL,3,1795289992786,1795289992786,1795289992790,1795289992825,1795289992825,NULL,NULL,'01a1ff9f4e54765e9de0de7cb9ceb46f',1,1,NULL,1);
INSERT INTO "task" VALUES('01a1ff9f1d087306ad3dc2656128876a','01a1ff9f4eec755c92a28c8a2527eabb','01a1ff9f4e5272feab28a03e391f521a','line fit 2','line fit 2','training','completed','','','["a","b"]','train','{"checkpoint":1,"dataset":1,"hyperparameter":{"epochs":3,"method":"gradient"},"name":"line fit 2","project":"first/second","tags":["a","b"]}','{"epochs":3,"method":"gradient"}','ebb60f29ceed29720c5e14fa2417ec902be19a04f63ed38f937bf81ccf9aef55','linear-regression','0.1.0',1,1,'1337','{}','{"coefficients":{"a":0.6629035967382272,"b":-0.33217192116495703},"intercept":0.902617623761396,"mae":0.31282993596655195,"model_id":2,"mse":0.15660416078069642,"r2":0.48673132596391944}','{"dataset":100.0,"model_upload":100.0,"train":100.0}',NULL,6,1795289992940,1795289992940,1795289992943,1795289992976,1795289992976,NULL,NULL,'01a1ff9f4eeb744d9862412f55eac844',1,1,NULL,1);
CREATE TABLE workspace (
    id text not null primary key,
    name text not null unique,
    created bigint not null
);
INSERT INTO "workspace" VALUES('01a1ff9f1d087306ad3dc2656128876a','default',1795289980168);
CREATE INDEX task_newest on task (workspace, created, id);
CREATE INDEX task_queue on task (state, workspace, queued, id);
CREATE UNIQUE INDEX task_active_name on task (workspace, encoded_name)
    where state in ('queued', 'in_progress');
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('dataset',1);
INSERT INTO "sqlite_sequence" VALUES('ingest',6);
INSERT INTO "sqlite_sequence" VALUES('model',2);
COMMIT;
