//! RSA without padding: the private operation on a block of the forger's own making, which no library
//! offers, and just enough arithmetic and DER for it. Not constant-time, and not meant to be.

/// A number of 2048 bits, least significant limb first.
type Number = [u64; LIMBS];

const LIMBS: usize = 32;

/// A private key's modulus and exponent.
pub struct RawRsa {
    modulus: Number,
    exponent: Number,
}

impl RawRsa {
    /// Reads a 2048-bit key (RFC 5208 around RFC 8017 appendix A.1.2).
    pub fn from_pkcs8(pkcs8: &[u8]) -> Self {
        let (info, _) = element(pkcs8);
        let (_version, rest) = element(info);
        let (_algorithm, rest) = element(rest);
        let (key, _) = element(rest);
        let (key, _) = element(key);
        let (_version, rest) = element(key);
        let (modulus, rest) = element(rest);
        let (_public_exponent, rest) = element(rest);
        let (exponent, _) = element(rest);
        Self { modulus: number(modulus), exponent: number(exponent) }
    }

    /// The block raised to the private exponent: a signature, if the block is one's padding.
    pub fn sign(&self, block: &[u8]) -> Vec<u8> {
        let base = self.to_montgomery(number(block));
        let mut power = self.to_montgomery(number(&[1]));
        for limb in self.exponent.iter().rev() {
            for bit in (0..64).rev() {
                power = self.multiply(&power, &power);
                if limb >> bit & 1 == 1 {
                    power = self.multiply(&power, &base);
                }
            }
        }
        bytes(&self.multiply(&power, &number(&[1])))
    }

    /// A signature plus the modulus: the same number to anyone who does not compare. None if it needs
    /// more than 256 bytes.
    pub fn plus_modulus(&self, signature: &[u8]) -> Option<Vec<u8>> {
        let (sum, carry) = add(&number(signature), &self.modulus);
        (!carry).then(|| bytes(&sum))
    }

    /// The modulus, less a small number.
    pub fn modulus_less(&self, small: u8) -> Vec<u8> {
        bytes(&subtract(&self.modulus, &number(&[small])))
    }

    /// `x` times 2^2048, modulo the modulus.
    fn to_montgomery(&self, x: Number) -> Number {
        (0..LIMBS * 64).fold(x, |x, _| {
            let (double, carry) = add(&x, &x);
            if carry || !less(&double, &self.modulus) { subtract(&double, &self.modulus) } else { double }
        })
    }

    /// Montgomery's product, limb by limb (Koç, Acar and Kaliski, 1996, "CIOS").
    fn multiply(&self, a: &Number, b: &Number) -> Number {
        let inverse = negated_inverse(self.modulus[0]);
        let mut t = [0_u64; LIMBS + 2];
        for limb in b {
            add_product(&mut t, a, *limb);
            let factor = t[0].wrapping_mul(inverse);
            add_product(&mut t, &self.modulus, factor);
            t.copy_within(1.., 0);
            t[LIMBS + 1] = 0;
        }
        let product = t[..LIMBS].try_into().unwrap();
        let too_large = t[LIMBS] != 0 || !less(&product, &self.modulus);
        if too_large { subtract(&product, &self.modulus) } else { product }
    }
}

/// `t += a * factor`.
fn add_product(t: &mut [u64; LIMBS + 2], a: &Number, factor: u64) {
    let mut carry = 0;
    for i in 0..LIMBS {
        (t[i], carry) = a[i].carrying_mul_add(factor, t[i], carry);
    }
    let (sum, over) = t[LIMBS].overflowing_add(carry);
    t[LIMBS] = sum;
    t[LIMBS + 1] += u64::from(over);
}

/// The number that times `odd` gives -1 modulo 2^64, by Newton's iteration.
fn negated_inverse(odd: u64) -> u64 {
    let inverse = (0..6).fold(1_u64, |x, _| x.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(x))));
    inverse.wrapping_neg()
}

fn add(a: &Number, b: &Number) -> (Number, bool) {
    let (mut sum, mut carry) = ([0; LIMBS], false);
    for i in 0..LIMBS {
        (sum[i], carry) = a[i].carrying_add(b[i], carry);
    }
    (sum, carry)
}

fn subtract(a: &Number, b: &Number) -> Number {
    let (mut difference, mut borrow) = ([0; LIMBS], false);
    for i in 0..LIMBS {
        (difference[i], borrow) = a[i].borrowing_sub(b[i], borrow);
    }
    difference
}

fn less(a: &Number, b: &Number) -> bool {
    a.iter().rev().lt(b.iter().rev())
}

fn number(big_endian: &[u8]) -> Number {
    let mut padded = [0; LIMBS * 8];
    let significant = &big_endian[big_endian.len().saturating_sub(padded.len())..];
    padded[LIMBS * 8 - significant.len()..].copy_from_slice(significant);
    let mut limbs = padded.rchunks(8).map(|chunk| u64::from_be_bytes(chunk.try_into().unwrap()));
    std::array::from_fn(|_| limbs.next().unwrap())
}

fn bytes(number: &Number) -> Vec<u8> {
    number.iter().rev().flat_map(|limb| limb.to_be_bytes()).collect()
}

/// The content of the first DER element, and what follows it.
fn element(der: &[u8]) -> (&[u8], &[u8]) {
    let (length, start) = match der[1] {
        long @ 0x81..=0x84 => {
            let end = 2 + usize::from(long - 0x80);
            (der[2..end].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), end)
        }
        short => (short.into(), 2),
    };
    der[start..].split_at(length)
}
