-- Console lines are kept compressed; how much is kept of reports is said by projects.

-- Where `content` is null, `lines` has the lines as JSON, as the schema before had them.
-- `sources` has a bit for each source of which there may be a line in the chunk.
alter table console add column content bytea;

alter table console add column sources bigint not null default 127;

-- A JSON object; what it does not say has its default.
alter table project add column retention text not null default '{}';

-- The table of trials that a program reports which tries configurations by itself.
create table trial_report (
    workspace text not null,
    task text not null,
    at bigint not null,
    body bytea not null,
    primary key (workspace, task),
    foreign key (workspace, task) references task (workspace, id) on delete cascade
);
