-- Three domains, each with a schema and a table of its own.
CREATE SCHEMA shop;
CREATE TABLE shop.product (
    sku text PRIMARY KEY, name text NOT NULL, category text NOT NULL, description text NOT NULL,
    price numeric(10,2) NOT NULL, stock integer NOT NULL, published boolean NOT NULL, purchase_price numeric(10,2));
CREATE SCHEMA policy;
CREATE TABLE policy.rule (
    id integer PRIMARY KEY, title text NOT NULL, body text NOT NULL, level smallint NOT NULL, valid_from date NOT NULL);
CREATE SCHEMA support;
CREATE TABLE support.ticket (
    id bigint PRIMARY KEY, region text NOT NULL, legal_hold boolean NOT NULL DEFAULT false, subject text NOT NULL,
    body text NOT NULL, customer_email text);
