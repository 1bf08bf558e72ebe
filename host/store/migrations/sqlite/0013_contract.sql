-- The contract that a component was built for, as its manifest has it: each run records it.
alter table plugin add column contract text not null default '';
update plugin set contract = coalesce(json_extract(manifest, '$.contract'), '');
