// y[r] = table[ids[r]] + positions[places[r]]. One work-group to a row.

__attribute__((reqd_work_group_size(LANES, 1, 1))) __kernel void tokens(
    __global const element *table, __global const element *positions, INTEGERS(ids), INTEGERS(places), OUTPUT(y),
    uint columns, uint hasPositions) {
    const uint r = get_group_id(0);
    __global const element *token = table + (size_t)ids[idsOffset + r] * columns;
    __global const element *place = positions + (hasPositions ? (size_t)places[placesOffset + r] * columns : 0);
    __global element *to = ROW(y, r);
    for (uint c = get_local_id(0); c < columns; c += LANES) {
        float v = LOAD(token, c);
        if (hasPositions) { v += LOAD(place, c); }
        STORE(v, to, c);
    }
}
