import java.nio.file.*;
import java.security.*;
import java.security.spec.*;
import java.util.Base64;
import javax.crypto.Cipher;
import javax.crypto.spec.*;

/** Decrypts a block as Intune's connector does: RSA-OAEP with one hash for both parts. Arguments: hash, PKCS#8 key in DER, base64 text. */
public class Decrypt {
    public static void main(String[] args) throws Exception {
        PrivateKey key = KeyFactory.getInstance("RSA").generatePrivate(new PKCS8EncodedKeySpec(Files.readAllBytes(Path.of(args[1]))));
        Cipher cipher = Cipher.getInstance("RSA/ECB/OAEPPadding");
        cipher.init(Cipher.DECRYPT_MODE, key,
            new OAEPParameterSpec(args[0], "MGF1", new MGF1ParameterSpec(args[0]), PSource.PSpecified.DEFAULT));
        System.out.println(new String(cipher.doFinal(Base64.getDecoder().decode(args[2])), "US-ASCII"));
    }
}
