"use strict";

const { findBinary } = require("./binary.cjs");
const { DriftlessError } = require("./error.cjs");
const { Sidecar, PROTOCOL } = require("./process.cjs");
const { Replica } = require("./replica.cjs");

/**
 * Starts to replicate a database by a process beside this one. When it resolves, every later write
 * to the tables is captured, by any program. It does not wait for the network.
 */
async function open(options) {
  return new Replica(options).start();
}

/** Tries a URL and a token before they are saved. Nothing is changed. */
async function testConnection({ binary, args, env, ...params }) {
  const sidecar = new Sidecar(findBinary(binary, env), { args, env });
  try {
    await sidecar.agree();
    return await sidecar.call("test_connection", params);
  } finally {
    await sidecar.end();
  }
}

module.exports = { open, testConnection, findBinary, DriftlessError, PROTOCOL };
