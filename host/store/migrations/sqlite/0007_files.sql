-- Files in any store. `location` of a file is where its content lies: absent, in the server's
-- own store under its digest; with `://`, at that address; otherwise, in the server's own store
-- under that name. A name is drawn for each upload and never used again, so that what is
-- removed by it is never something newer. `linked` is 1 for an object that is not ours: it is
-- never removed, and `etag` tells whether it has changed. `touched` is when it was last
-- uploaded or asked for.
alter table file add column linked bigint not null default 0;
alter table file add column etag text;
alter table file add column touched bigint not null default 0;
update file set touched = created;
create index file_touched on file (touched);

-- Objects that no row of `file` or `upload_part` refers to. state: incoming (being written by
-- the server of the data folder `home`) or garbage (to be removed). A row is there before its
-- object, and for as long as the object may be.
create table stray (
    location text not null primary key,
    state text not null,
    home text not null,
    at bigint not null
);
create index stray_state on stray (state, at);

-- Uploads that come in parts. `result` is the digest once it is complete.
create table upload (
    workspace text not null references workspace (id),
    id text not null,
    task text,
    size_bytes bigint not null,
    sha256 text,
    result text,
    created bigint not null,
    last_update bigint not null,
    primary key (workspace, id)
);

create table upload_part (
    workspace text not null,
    upload text not null,
    number bigint not null,
    first_byte bigint not null,
    size_bytes bigint not null,
    crc32c bigint not null,
    location text not null,
    primary key (workspace, upload, number),
    foreign key (workspace, upload) references upload (workspace, id)
);

-- Deleting a project's, task's or model's rows looks for what refers to a file.
create index dataset_file_file on dataset_file (workspace, sha256);
create index model_file on model (workspace, sha256);
create index sample_file on sample (workspace, sha256);
create index artifact_file on artifact (workspace, sha256);
create index plot_file on plot (workspace, sha256);
