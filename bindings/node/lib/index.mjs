import driftless from "./index.cjs";

export const { open, testConnection, findBinary, DriftlessError, PROTOCOL } = driftless;
